"""An upload as it comes in: frames of content in, files out, each a list of steps that name nothing outside of their bounds."""

from __future__ import annotations

from array import array
from typing import Callable, Iterator, List, Optional, Protocol, Sequence, Union

from deployer.errors import GateError
from deployer.host.disk import STATE
from deployer.wire import content, frames
from deployer.wire.chunks import unpack_lengths

MOST_LENGTHS = 1 << 24
"""Chunks of one file: 32 GB of the usual ones."""
Bytes = Union[bytes, memoryview]


class Base(Protocol):
    """A file that the host has, in chunks."""

    def pieces(self, first: int, count: int) -> Iterator[bytes]:
        """The bytes of *count* chunks from *first*. Raises ValueError beyond its end."""

    def lengths(self, first: int, count: int) -> Sequence[int]: ...


class Inflow:
    """
    The bytes of one stream. `wire` counts those of its frames; `ended` is whether its end has been seen.

    Raises BrokenFrame when the link ends before the stream does, GateError when it is not what it should be.
    """

    def __init__(self, receive: Callable[[], Optional[frames.Frame]]) -> None:
        self._receive = receive
        self._rest = memoryview(b"")
        self.wire = 0
        self.ended = False

    def more(self) -> bool:
        """Whether another record follows."""
        while not self._rest and not self.ended:
            frame = self._receive()
            if not isinstance(frame, bytes):
                raise frames.BrokenFrame("the upload broke off")
            self.wire += frames.HEADER.size + len(frame)
            if not frame:
                self.ended = True
            else:
                self._rest = content.expand(frame)
        return bool(self._rest)

    def number(self) -> int:
        value = 0
        for place in range(content.LONGEST_NUMBER):
            byte = self._some(1)[0]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
        raise damaged("a number without end")

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next *count* bytes, as they come."""
        while count > 0:
            piece = self._some(count)
            count -= len(piece)
            yield piece

    def _some(self, most: int) -> memoryview:
        if not self._rest and not self.more():
            raise damaged("it ends in the middle of a file")
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece


class Record:
    """
    One file of an upload: `index` says which, `start` from which byte on it comes.

    When `pieces` has given all, `ended` is true, and `chunks` has the lengths of its chunks, as far as they were told.
    """

    def __init__(self, inflow: Inflow) -> None:
        self._inflow = inflow
        self.index = inflow.number()
        self.start = inflow.number()
        self.copied = False
        self.skipped = False  # set to read on to the end of a file that is none: nothing is copied any more
        self.ended = False
        self._told: "array[int]" = array("H")
        self._layout: List[Union[int, Sequence[int]]] = [self.start]

    @property
    def derived(self) -> bool:
        """Whether it is made of more than what was sent: of what was here, which may not be what the client thinks."""
        return self.copied or self.start > 0

    def pieces(self, base: Optional[Base]) -> Iterator[Bytes]:
        """The content from `start` on."""
        while True:
            step = self._inflow.number()
            if step == content.END:
                self.ended = True
                return
            if step == content.LITERAL:
                count = self._inflow.number()
                self._layout.append(count)
                yield from self._inflow.pieces(count)
            elif step == content.COPY:
                yield from self._copy(base)
            elif step == content.LENGTHS:
                self._lengths(self._inflow.number())
            else:
                raise damaged(f"an unknown step: {step}")

    def _copy(self, base: Optional[Base]) -> Iterator[bytes]:
        self.copied = True
        first, count = self._inflow.number(), self._inflow.number()
        if self.skipped:
            return
        if base is None:
            raise damaged("a copy of a file that is not here")
        try:
            self._layout.append(base.lengths(first, count))
            yield from base.pieces(first, count)
        except ValueError as error:
            raise damaged(f"a copy beyond the end: {error}") from error

    def _lengths(self, count: int) -> None:
        if count + len(self._told) > MOST_LENGTHS:
            raise damaged("more chunks than a file can have")
        told = b"".join(self._inflow.pieces(2 * count))
        self._told.extend(unpack_lengths(told))

    @property
    def chunks(self) -> Optional["array[int]"]:
        """The lengths of all its chunks, in order; None when what was told does not fit what came."""
        told, found, owed = iter(self._told), array("H"), 0
        for part in [*self._layout, array("H")]:
            if isinstance(part, int):
                owed += part
                continue
            while owed > 0:
                length = next(told, 0)
                if length == 0:
                    return None
                found.append(length)
                owed -= length
            if owed < 0:
                return None
            found.extend(part)
        return found if next(told, None) is None else None


def damaged(cause: str) -> GateError:
    return GateError("the upload is not what it should be", cause=cause, state=STATE, hint="push again")
