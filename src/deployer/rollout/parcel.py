"""What one host lacks of an artifact, as a stream of content; wire/content.py has its form."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from deployer.artifact import Artifact
from deployer.cuts import Cutter, possible
from deployer.manifest import Entry
from deployer.rollout.delta import Run, compare
from deployer.wire.chunks import FROM, pack_lengths
from deployer.wire.content import COPY, END, LENGTHS, LITERAL, PAYLOAD, number

READ = PAYLOAD - 32
"""With the beginning of its record in front it fills a frame."""


@dataclass(frozen=True)
class Offer:
    """What a host has to begin a file with: bytes that a broken link left, and the groups of a file like it."""

    start: int
    base: bytes
    ask: Callable[[list[int]], bytes]


@dataclass(frozen=True)
class Item:
    """One file to be sent: its number among the manifest's blobs, and what the host has to begin with."""

    index: int
    entry: Entry
    start: int = 0
    runs: Sequence[Run] = ()

    @property
    def size(self) -> int:
        """Bytes of content that have to be sent."""
        if self.runs:
            return sum(run.size for run in self.runs if run.first is None)
        return self.entry.size - self.start


def item(index: int, opened: Artifact, offer: Offer | None) -> Item:
    """The file with that number, sent in the way that takes the fewest bytes."""
    entry = opened.manifest.blobs[index]
    if offer is None:
        return Item(index, entry)
    left = Item(index, entry, start=offer.start)
    if not offer.base or not possible():
        return left
    copied = Item(index, entry, runs=compare(opened.cuts.chunks(entry, opened.open), offer.base, offer.ask))
    return copied if copied.size < left.size else left


class Parcel:
    """The *items* of *opened*, packed. `content` counts the bytes of files that have been handed out so far."""

    def __init__(self, opened: Artifact, items: Sequence[Item]) -> None:
        self._opened = opened
        self._items = items
        self.content = 0

    def payloads(self) -> Iterator[list[bytes]]:
        """The stream in parts that go together: at most PAYLOAD bytes."""
        waiting, size = list[bytes](), 0
        for part in self._parts():
            if size + len(part) > PAYLOAD:
                yield waiting
                waiting, size = [], 0
            waiting.append(part)
            size += len(part)
        if waiting:
            yield waiting

    def _parts(self) -> Iterator[bytes]:
        for one in self._items:
            yield number(one.index) + number(one.start)
            with self._opened.open(one.entry) as file:
                yield from self._copied(file, one) if one.runs else self._whole(file, one)
            yield number(END)

    def _whole(self, file: BinaryIO, one: Item) -> Iterator[bytes]:
        cutter = Cutter() if one.entry.size >= FROM and self._opened.cuts.lengths(one.entry.sha256) is None else None
        skip, at = one.start, 0
        while piece := file.read(READ):
            at += len(piece)
            if cutter is not None:
                for _ in cutter.feed(piece):
                    pass
            if skip:
                skip, piece = max(0, skip - len(piece)), piece[skip:]
            if piece:
                yield number(LITERAL) + number(len(piece))
                yield piece
                self.content += len(piece)
        if cutter is not None:
            for _ in cutter.feed(b"", last=True):
                pass
            self._opened.cuts.keep(one.entry.sha256, cutter.lengths)
        yield from _lengths(self._opened.cuts.lengths(one.entry.sha256) or ())

    def _copied(self, file: BinaryIO, one: Item) -> Iterator[bytes]:
        new = list[int]()
        for run in one.runs:
            if run.first is not None:
                _skip(file, run.size)
                yield number(COPY) + number(run.first) + number(run.count)
                continue
            new += run.lengths
            for piece in _read(file, run.size):
                yield number(LITERAL) + number(len(piece))
                yield piece
                self.content += len(piece)
        yield from _lengths(new)


def _lengths(lengths: Sequence[int]) -> Iterator[bytes]:
    for start in range(0, len(lengths), READ // 2):
        part = lengths[start : start + READ // 2]
        yield number(LENGTHS) + number(len(part)) + pack_lengths(part)


def _read(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(size, READ))):
        size -= len(piece)
        yield piece


def _skip(file: BinaryIO, size: int) -> None:
    if file.seekable():
        file.seek(size, io.SEEK_CUR)
        return
    for _ in _read(file, size):
        pass
