"""
Chunks: the pieces of a big file that a change elsewhere in it leaves alone.

Only the client cuts (by content, so that an insertion moves no cut but its own); the host keeps the lengths. Both hash each
chunk, and some 32 chunks that follow each other are a group: which groups differ is told first, then which of their chunks.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import Iterator, List, Sequence, Tuple

SHORT = 6
"""Bytes of a hash that are compared; the sha256 of the whole file decides in the end."""
LONGEST = 65535
FROM = 1 << 20
"""Bytes of a file that is worth it."""
MOST_IN_GROUP = 255
_ENDS_GROUP = 0x1F


@dataclass(frozen=True)
class Chunks:
    """A file's chunks in order: the length of each, and their short hashes in one string."""

    lengths: Sequence[int]
    hashes: bytes

    @cached_property
    def groups(self) -> Tuple[int, ...]:
        """How many chunks each group has; a group ends after a chunk whose hash says so."""
        counts, count = [], 0
        for first in self.hashes[::SHORT]:
            count += 1
            if first & _ENDS_GROUP == 0 or count == MOST_IN_GROUP:
                counts.append(count)
                count = 0
        return tuple([*counts, count] if count else counts)

    def hash(self, index: int) -> bytes:
        return self.hashes[index * SHORT : (index + 1) * SHORT]

    def told(self) -> bytes:
        """Count and hash of each group: what `heard` takes apart."""
        return b"".join(bytes([len(part) // SHORT]) + short(part) for part in self._parts())

    def of_groups(self, wanted: Sequence[int]) -> bytes:
        """The hashes of the chunks in these groups, one after the other. Raises IndexError."""
        parts = list(self._parts())
        return b"".join(parts[group] for group in wanted)

    def _parts(self) -> Iterator[bytes]:
        start = 0
        for count in self.groups:
            yield self.hashes[start : start + count * SHORT]
            start += count * SHORT


def heard(told: bytes) -> Tuple[List[int], List[bytes]]:
    """The counts and hashes of a file's groups."""
    step = 1 + SHORT
    return list(told[::step]), [told[at + 1 : at + step] for at in range(0, len(told), step)]


def short(data: "bytes | memoryview") -> bytes:
    return hashlib.sha256(data).digest()[:SHORT]


def pack_lengths(lengths: Sequence[int]) -> bytes:
    """Two bytes each, big endian."""
    return _swapped(array("H", lengths)).tobytes()


def unpack_lengths(data: bytes) -> "array[int]":
    found = array("H")
    found.frombytes(data)
    return _swapped(found)


def _swapped(lengths: "array[int]") -> "array[int]":
    if sys.byteorder == "little":
        lengths.byteswap()
    return lengths
