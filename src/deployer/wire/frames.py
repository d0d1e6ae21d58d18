"""
Frames: what travels between the client and the host engine, and between the engine's own processes.

One frame is a kind (1 byte: ``J`` JSON or ``B`` bytes), a length (4 bytes, big endian) and that many bytes.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Tuple, Union

HEADER = struct.Struct(">cI")
MAX_FRAME = 64 * 1024 * 1024
"""No honest frame is larger: a 5,000-file manifest has about 1 MB. Bytes of files travel in slices."""
SLICE = 256 * 1024

Message = Dict[str, Any]
Frame = Union[Message, bytes]


class BrokenFrame(Exception):
    """The peer sent what is no frame; the connection is useless from here on."""


def pack(message: Frame) -> bytes:
    """*message* as one frame. Lone surrogates (odd file names) survive as JSON escapes."""
    if isinstance(message, bytes):
        return HEADER.pack(b"B", len(message)) + message
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return HEADER.pack(b"J", len(body)) + body


class Decoder:
    """Turns bytes as they arrive into whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> List[Frame]:
        """The frames that *data* completes. Raises BrokenFrame."""
        self._buffer += data
        frames: List[Frame] = []
        while True:
            frame = self._next()
            if frame is None:
                return frames
            frames.append(frame)

    def _next(self) -> Optional[Frame]:
        if len(self._buffer) < HEADER.size:
            return None
        kind, length = _header(bytes(self._buffer[: HEADER.size]))
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        return _body(kind, body)


def read(stream: BinaryIO) -> Optional[Frame]:
    """The next frame of a blocking *stream*; None at its end. Raises BrokenFrame on a torn or foreign one."""
    head = stream.read(HEADER.size)
    if not head:
        return None
    if len(head) < HEADER.size:
        raise BrokenFrame("the stream ended inside a frame")
    kind, length = _header(head)
    body = stream.read(length)
    if len(body) < length:
        raise BrokenFrame("the stream ended inside a frame")
    return _body(kind, body)


def slices(stream: BinaryIO) -> Iterator[bytes]:
    """The content of *stream* in frame-sized pieces."""
    while True:
        piece = stream.read(SLICE)
        if not piece:
            return
        yield piece


def _header(head: bytes) -> Tuple[bytes, int]:
    kind, length = HEADER.unpack(head)
    if kind not in (b"J", b"B") or length > MAX_FRAME:
        raise BrokenFrame(f"not a frame: starts with {head!r}")
    return kind, length


def _body(kind: bytes, body: bytes) -> Frame:
    if kind == b"B":
        return body
    try:
        message = json.loads(body)
    except ValueError as error:
        raise BrokenFrame(f"a frame that is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BrokenFrame("a frame that is not a JSON object")
    return message
