"""
What the host knows of the chunks of its big files: the lengths that clients told, and hashes that it makes by itself.

One file per content below chunks/. It is a cache: a list that is gone, torn or a lie costs an upload of the whole file, never
a wrong one.
"""

from __future__ import annotations

import os
import struct
import zlib
from itertools import accumulate
from typing import BinaryIO, Collection, Iterator, List, Optional, Sequence

from deployer.host.blob_file import unlink
from deployer.wire.chunks import LONGEST, SHORT, Chunks, pack_lengths, short, unpack_lengths

_HEAD = struct.Struct(">4sII")  # magic, how many chunks, crc32 of the rest
_MAGIC = b"dch1"
_READ = 1 << 20


class ChunkLists:
    """The lists below *root*, by the sha256 of the content."""

    def __init__(self, root: str) -> None:
        self._root = root

    def note(self, sha256: str, lengths: Sequence[int]) -> None:
        """Remember them for the next upload, if the disk lets us."""
        self._save(sha256, Chunks(lengths, b""))

    def there(self, sha256: str) -> bool:
        return os.path.exists(self._path(sha256))

    def chunks(self, sha256: str, size: int, file: BinaryIO) -> Optional[Chunks]:
        """The chunks of *file*, which has that content, with their hashes; None when its list is not to be had."""
        known = self._load(sha256)
        if known is None or sum(known.lengths) != size:
            return None
        if len(known.hashes) != SHORT * len(known.lengths):
            known = Chunks(known.lengths, _hashes(file, known.lengths))
            self._save(sha256, known)
        return known

    def keep(self, needed: Collection[str]) -> None:
        """Forget all but those of *needed*."""
        for name in os.listdir(self._root) if os.path.isdir(self._root) else ():
            if name not in needed:
                unlink(f"{self._root}/{name}")

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256}"

    def _save(self, sha256: str, chunks: Chunks) -> None:
        body = pack_lengths(chunks.lengths) + chunks.hashes
        temporary = f"{self._root}/{sha256}.next"
        try:
            os.makedirs(self._root, mode=0o700, exist_ok=True)
            unlink(temporary)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(_HEAD.pack(_MAGIC, len(chunks.lengths), zlib.crc32(body)) + body)
            os.replace(temporary, self._path(sha256))
        except OSError:
            pass  # a full disk only makes the next upload longer

    def _load(self, sha256: str) -> Optional[Chunks]:
        try:
            with open(self._path(sha256), "rb") as file:
                magic, count, crc = _HEAD.unpack(file.read(_HEAD.size))
                body = file.read()
        except (OSError, struct.error):
            return None
        if magic != _MAGIC or zlib.crc32(body) != crc or len(body) not in (2 * count, (2 + SHORT) * count):
            return None
        return Chunks(unpack_lengths(body[: 2 * count]), body[2 * count :])


class BlobBase:
    """A blob as the base of another file: runs of its chunks. Use as a context manager."""

    def __init__(self, file: BinaryIO, chunks: Chunks) -> None:
        self._file = file
        self._starts: List[int] = [0, *accumulate(chunks.lengths)]
        self.chunks = chunks

    def __enter__(self) -> BlobBase:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def lengths(self, first: int, count: int) -> Sequence[int]:
        if first + count >= len(self._starts):
            raise ValueError(f"{count} chunks from {first}, of {len(self._starts) - 1}")
        return self.chunks.lengths[first : first + count]

    def pieces(self, first: int, count: int) -> Iterator[bytes]:
        self.lengths(first, count)
        self._file.seek(self._starts[first])
        left = self._starts[first + count] - self._starts[first]
        while left > 0:
            piece = self._file.read(min(left, _READ))
            if not piece:
                return  # shorter than it was: the hash tells
            left -= len(piece)
            yield piece


def _hashes(file: BinaryIO, lengths: Sequence[int]) -> bytes:
    """The short hash of each chunk, read in large pieces."""
    found, rest, at = [], memoryview(b""), 0
    file.seek(0)
    for length in lengths:
        if len(rest) - at < length:
            rest, at = memoryview(bytes(rest[at:]) + file.read(_READ + LONGEST)), 0
        found.append(short(rest[at : at + length]))
        at += length
    return b"".join(found)
