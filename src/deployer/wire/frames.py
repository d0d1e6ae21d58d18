"""
Frames: what travels between the client and the host engine, and between the engine's own processes.

One frame is a kind (1 byte), a length (4 bytes, big endian) and that many bytes. Kinds: ``J`` JSON, ``Z`` JSON that zlib has
squeezed, ``B`` bytes, and ``H``, a beat: it says that its sender lives, and nobody is given it.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, BinaryIO, Dict, Iterator, List, Optional, Tuple, Union

HEADER = struct.Struct(">cI")
MAX_FRAME = 64 * 1024 * 1024
"""No honest frame is larger: a 5,000-file manifest has about 1 MB. Files travel as `wire/content.py` says."""
MAX_ANSWER = 16 * 1024 * 1024
"""No honest answer of an engine is larger, when it is not squeezed any more: its JSON makes twenty times that of objects."""
SLICE = 256 * 1024
BEAT = HEADER.pack(b"H", 0)
WORTH_SQUEEZING = 1024
"""JSON shorter than this goes as it is."""

_BOMB = "a frame that expands beyond all bounds"

Message = Dict[str, Any]
Frame = Union[Message, bytes]


class BrokenFrame(Exception):
    """The peer sent what is no frame; the connection is useless from here on."""


def pack(message: Frame, squeeze: bool = False) -> bytes:
    """*message* as one frame, JSON compressed with *squeeze*. Lone surrogates (odd file names) survive as JSON escapes."""
    if isinstance(message, bytes):
        return HEADER.pack(b"B", len(message)) + message
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if squeeze and len(body) > WORTH_SQUEEZING:
        body = zlib.compress(body, 6)
        return HEADER.pack(b"Z", len(body)) + body
    return HEADER.pack(b"J", len(body)) + body


class Decoder:
    """
    Turns bytes as they arrive into whole frames.

    *most*: bytes of JSON, when it is not squeezed any more, that one `feed` may complete. `taken` are the bytes of all frames
    so far, counted like this.
    """

    def __init__(self, most: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._most = most
        self.taken = 0

    def feed(self, data: bytes) -> List[Frame]:
        """The frames that *data* completes. Raises BrokenFrame."""
        self._buffer += data
        left = self._most
        frames: List[Frame] = []
        start = 0
        view = memoryview(self._buffer)
        try:
            while len(view) - start >= HEADER.size:
                kind, length = _header(bytes(view[start : start + HEADER.size]))
                if kind in (b"J", b"Z") and length > left:
                    raise BrokenFrame(_BOMB)
                end = start + HEADER.size + length
                if len(view) < end:
                    break
                if kind != b"H":
                    body = _plain(kind, bytes(view[start + HEADER.size : end]), left)
                    left -= len(body) if kind != b"B" else 0
                    self.taken += len(body)
                    frames.append(_parsed(kind, body))
                start = end
        finally:
            view.release()
            del self._buffer[:start]
        return frames


def read(stream: BinaryIO) -> Optional[Frame]:
    """The next frame of a blocking *stream*; None at its end. Raises BrokenFrame on a torn or foreign one."""
    while True:
        head = stream.read(HEADER.size)
        if not head:
            return None
        if len(head) < HEADER.size:
            raise BrokenFrame("the stream ended inside a frame")
        kind, length = _header(head)
        body = stream.read(length)
        if len(body) < length:
            raise BrokenFrame("the stream ended inside a frame")
        if kind != b"H":
            return _parsed(kind, _plain(kind, body, MAX_FRAME))


def slices(stream: BinaryIO) -> Iterator[bytes]:
    """The content of *stream* in frame-sized pieces."""
    while True:
        piece = stream.read(SLICE)
        if not piece:
            return
        yield piece


def _header(head: bytes) -> Tuple[bytes, int]:
    kind, length = HEADER.unpack(head)
    if kind not in (b"J", b"Z", b"B", b"H") or length > MAX_FRAME:
        raise BrokenFrame(f"not a frame: starts with {head!r}")
    return kind, length


def _parsed(kind: bytes, body: bytes) -> Frame:
    if kind == b"B":
        return body
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BrokenFrame(f"a frame that is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise BrokenFrame("a frame that is not a JSON object")
    return message


def _plain(kind: bytes, body: bytes, most: int) -> bytes:
    """*body* as it was before it was squeezed."""
    if kind != b"Z":
        return body
    expander = zlib.decompressobj()
    try:
        # One byte more: zlib takes 0 for no bound at all.
        whole = expander.decompress(body, most + 1)
    except zlib.error as error:
        raise BrokenFrame(f"a frame that is not JSON: {error}") from error
    if len(whole) > most:
        raise BrokenFrame(_BOMB)
    return whole
