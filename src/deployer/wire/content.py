"""
The stream that brings a release's files: what the host lacks, packed into frames without regard to where a file ends.

Each frame of bytes is a flag (squeezed by zlib, or as it is) and at most PAYLOAD bytes of the stream; an empty frame ends it.
The stream is a record for each file: its number among the manifest's blobs, from which byte on it comes (a break left that
many), then steps: bytes as they are, a run of chunks that the host has in the file's base, or the lengths of chunks that
came as bytes, and an end. Numbers are of variable length, seven bits a byte, the lowest first.
"""

from __future__ import annotations

import zlib

from deployer.wire.frames import BrokenFrame

PAYLOAD = 8 * 32704 - 6
"""With its header and the flag a frame is eight full packets of an SSH channel: a ninth, nearly empty, would cost a tenth."""
RAW, SQUEEZED = 0, 1
END, LITERAL, COPY, LENGTHS = 0, 1, 2, 3
LONGEST_NUMBER = 9
"""Bytes: 63 bits."""


def number(value: int) -> bytes:
    """*value*, not negative, as it stands in a stream."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def expand(frame: bytes) -> memoryview:
    """The bytes of the stream that *frame*, which is not empty, brings. Raises BrokenFrame for more than an honest one has."""
    body = memoryview(frame)[1:]
    if frame[0] == RAW:
        whole = body
    elif frame[0] == SQUEEZED:
        whole = memoryview(_unsqueezed(body))
    else:
        raise BrokenFrame(f"content in an unknown form: {frame[0]}")
    if len(whole) > PAYLOAD:
        raise BrokenFrame("a frame of content beyond all bounds")
    return whole


def _unsqueezed(body: memoryview) -> bytes:
    expander = zlib.decompressobj()
    try:
        whole = expander.decompress(body, PAYLOAD + 1)
    except zlib.error as error:
        raise BrokenFrame(f"content that zlib does not take: {error}") from error
    if not expander.eof and len(whole) <= PAYLOAD:
        raise BrokenFrame("content that ends too early")
    return whole
