"""The stream of events: numbered, kept for who comes back, and written to readers that are never waited for."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

KEPT = 10_000
"""Events that a reader may have missed and still get."""
KEPT_TASKS = 100_000
"""Tasks in them, of which a node may name a hundred in each."""


class Reader(Protocol):
    """Somebody at the other end of /events."""

    def send(self, piece: bytes) -> None: ...

    def end(self) -> None: ...


class Feed:
    """
    Every event goes to every reader at once, and into a ring.

    *first* is the number before the first event: later than that of any registry before us, or else a reader that
    comes back to a restarted registry would take new events for those that it has seen.
    """

    def __init__(self, first: int) -> None:
        self._number = first
        self._ring: deque[tuple[int, str, Any]] = deque()
        self._tasks = 0
        self._readers: set[Reader] = set()

    def __len__(self) -> int:
        return len(self._readers)

    def publish(self, name: str, document: Any) -> None:
        self._number += 1
        # Written out for whoever reads, and else not at all: most of the time nobody does.
        self._keep((self._number, name, document))
        if not self._readers:
            return
        piece = _piece(self._number, name, document)
        for reader in list(self._readers):
            reader.send(piece)

    def _keep(self, event: tuple[int, str, Any]) -> None:
        self._ring.append(event)
        self._tasks += len(event[2]["tasks"])
        while len(self._ring) > KEPT or self._tasks > KEPT_TASKS:
            self._tasks -= len(self._ring.popleft()[2]["tasks"])

    def since(self, last: int) -> Iterator[bytes] | None:
        """What came after number *last*; None when that is not known any more, or not yet."""
        oldest = self._ring[0][0] if self._ring else self._number + 1
        if not oldest - 1 <= last <= self._number:
            return None
        return (_piece(*event) for event in list(self._ring) if event[0] > last)

    @property
    def number(self) -> int:
        """The number of the last event."""
        return self._number

    def join(self, reader: Reader) -> None:
        self._readers.add(reader)

    def leave(self, reader: Reader) -> None:
        self._readers.discard(reader)

    def breathe(self) -> None:
        """A comment for everybody: shows a reader that we are there, and us that a reader has gone."""
        for reader in list(self._readers):
            reader.send(b": here\n\n")

    def end(self) -> None:
        for reader in list(self._readers):
            reader.end()
        self._readers.clear()


def _piece(number: int, name: str, document: Any) -> bytes:
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return f"event: {name}\nid: {number}\ndata: {text}\n\n".encode()
