"""Where a big file is cut into chunks, by its content; once for all hosts. Without pyfastcdc nothing is cut, and files go whole."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from deployer.manifest import Entry
from deployer.wire.chunks import Chunks, short

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

SHORTEST, AVERAGE, LONGEST = 4096, 4096, 32768
"""Bytes; measured, see docs/benchmarks.md. Every client must cut alike, or the next push finds nothing of this one's chunks."""
READ = 1 << 20


def possible() -> bool:
    """Whether files can be cut here."""
    return _cutter() is not None


class Cuts:
    """The chunks of files that were asked for, kept as long as the artifact is. From several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lengths: dict[str, list[int]] = {}
        self._chunks: dict[str, Chunks] = {}
        self._at_work: dict[str, threading.Lock] = {}

    def lengths(self, sha256: str) -> list[int] | None:
        """What `keep` was given for that content."""
        return self._lengths.get(sha256)

    def keep(self, sha256: str, lengths: list[int]) -> None:
        """The file that was read with a `Cutter` has them."""
        self._lengths[sha256] = lengths

    def chunks(self, entry: Entry, open_file: Callable[[Entry], BinaryIO]) -> Chunks:
        """The chunks of *entry* with their hashes. Only where it is `possible`."""
        with self._lock:
            at_work = self._at_work.setdefault(entry.sha256, threading.Lock())
        with at_work:  # 50 hosts want the same file: one of them reads it
            if entry.sha256 not in self._chunks:
                with open_file(entry) as file:
                    self._chunks[entry.sha256] = _hashed(file)
                self.keep(entry.sha256, list(self._chunks[entry.sha256].lengths))
            return self._chunks[entry.sha256]


class Cutter:
    """Cuts a file as it is read, piece by piece."""

    def __init__(self) -> None:
        self._cutter = _cutter()
        self._rest = b""
        self.lengths: list[int] = []

    def feed(self, piece: bytes, last: bool = False) -> Iterator[memoryview]:
        """The chunks that *piece* completes; with *last* all that is left."""
        if self._cutter is None:
            return
        data = self._rest + piece if self._rest else piece
        sure = len(data) if last else len(data) - LONGEST  # a chunk that begins behind may not end where it seems to
        at = 0
        if sure > 0:
            for chunk in self._cutter.cut_buf(data):
                if chunk.offset > sure:
                    break
                self.lengths.append(chunk.length)
                at = chunk.offset + chunk.length
                yield chunk.data
        self._rest = data[at:]


def _hashed(file: BinaryIO) -> Chunks:
    cutter, hashes = Cutter(), []
    while piece := file.read(READ):
        hashes += [short(chunk) for chunk in cutter.feed(piece)]
    hashes += [short(chunk) for chunk in cutter.feed(b"", last=True)]
    return Chunks(cutter.lengths, b"".join(hashes))


def _cutter() -> FastCDC | None:
    try:
        with warnings.catch_warnings(action="ignore"):
            from pyfastcdc import FastCDC, cy  # noqa: F401 - only the compiled one: the other is slower than any link
    except ImportError:
        return None
    return FastCDC(AVERAGE, min_size=SHORTEST, max_size=LONGEST)
