"""A big file in terms of one that the host has: which runs of chunks it need not be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deployer.wire.chunks import SHORT, Chunks, heard, short


@dataclass(frozen=True)
class Run:
    """*size* bytes of the new file, *lengths* of its chunks; `first` is the base's chunk where they begin, None: not there."""

    size: int
    lengths: tuple[int, ...]
    first: int | None

    @property
    def count(self) -> int:
        return len(self.lengths)


def compare(new: Chunks, told: bytes, ask: Callable[[list[int]], bytes]) -> list[Run]:
    """
    *new* as runs, in order. *told* are the base's groups; *ask* gives the hashes of the chunks in some of them.

    Asked are those groups that the new file does not have as a whole.
    """
    counts, hashes = heard(told)
    starts = _starts(counts)
    whole = dict(zip(hashes, starts, strict=True))
    groups = list(_groups(new))
    unmatched = sorted(set(range(len(hashes))) - _found(groups, hashes))
    chunks = _chunks(unmatched, counts, starts, ask(unmatched)) if unmatched and len(whole) else {}
    return list(_merged(new, _places(new, groups, whole, chunks)))


def _starts(counts: list[int]) -> list[int]:
    starts, at = [], 0
    for count in counts:
        starts.append(at)
        at += count
    return starts


def _groups(new: Chunks) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    for count in new.groups:
        yield at, count, short(new.hashes[at * SHORT : (at + count) * SHORT])
        at += count


def _found(groups: list[tuple[int, int, bytes]], hashes: list[bytes]) -> set[int]:
    mine = {one for _, _, one in groups}
    return {index for index, one in enumerate(hashes) if one in mine}


def _chunks(groups: list[int], counts: list[int], starts: list[int], told: bytes) -> dict[bytes, int]:
    places = [starts[group] + step for group in groups for step in range(counts[group])]
    return {told[at * SHORT : (at + 1) * SHORT]: place for at, place in enumerate(places)}


def _places(
    new: Chunks, groups: list[tuple[int, int, bytes]], whole: dict[bytes, int], chunks: dict[bytes, int]
) -> Iterator[int | None]:
    """Where in the base each chunk of *new* is."""
    for at, count, mark in groups:
        if mark in whole:
            yield from range(whole[mark], whole[mark] + count)
        else:
            yield from (chunks.get(new.hash(index)) for index in range(at, at + count))


def _merged(new: Chunks, places: Iterator[int | None]) -> Iterator[Run]:
    first, lengths = None, list[int]()
    for length, place in zip(new.lengths, places, strict=True):
        goes_on = place is None if first is None else place == first + len(lengths)
        if lengths and not goes_on:
            yield Run(sum(lengths), tuple(lengths), first)
            lengths = []
        if not lengths:
            first = place
        lengths.append(length)
    if lengths:
        yield Run(sum(lengths), tuple(lengths), first)
