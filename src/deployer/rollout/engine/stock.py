"""On a node of the cluster: an artifact whose bytes lie in the object store, which brings them to each node once."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from deployer.artifact import Artifact
from deployer.errors import GateError
from deployer.manifest import Entry, Manifest, key
from deployer.rollout.engine.pieces import Layout

Get = Callable[[Any], Any]


class Stock:
    """The manifest and what has been brought of the content so far; one for all hosts of this process."""

    def __init__(self, manifest: Manifest, get: Get) -> None:
        self._get = get
        self._layout = Layout(manifest)
        self._pieces: dict[int, Any] = {}
        self._latest: tuple[int, memoryview] | None = None
        self.artifact = Artifact(manifest, self._open)

    def add(self, pieces: dict[int, Any]) -> None:
        """References to more pieces, by their number."""
        self._pieces.update(pieces)

    def _open(self, entry: Entry) -> BinaryIO:
        return io.BufferedReader(_Blob(self, self._layout.start(key(entry)), entry.size), 1 << 16)

    def piece(self, at: int) -> tuple[int, memoryview]:
        """The piece in which byte *at* lies: the first of its bytes, and all of them."""
        number, skip = self._layout.place(at)
        latest = self._latest
        if latest is None or latest[0] != number:  # small files lie side by side, and to ask takes longer than to read
            latest = self._latest = number, memoryview(self._fetched(number).data)
        return at - skip, latest[1]

    def _fetched(self, number: int) -> Any:
        try:
            return self._get(self._pieces[number])
        except Exception as error:  # Ray has many; the node that has it may be lost
            cause = f"{type(error).__name__}: {error}"
            raise GateError("the artifact cannot be read from the cluster any more", cause=cause[:400]) from error


class Stocks:
    """The stocks by their digest: the manifest is read once. *get* gives what a reference stands for."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._lock = threading.Lock()
        self._stocks: dict[str, Stock] = {}

    def of(self, digest: str, manifest: list[Any]) -> Stock:
        """That of *digest*; *manifest* holds a reference to it."""
        with self._lock:
            if digest not in self._stocks:
                self._stocks[digest] = Stock(self._get(manifest[0]), self._get)
            return self._stocks[digest]


class _Blob(io.RawIOBase):
    def __init__(self, stock: Stock, start: int, size: int) -> None:
        self._stock, self._start, self._size, self._at = stock, start, size, 0
        self._first, self._held = 0, memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        most = min(len(buffer), self._size - self._at)
        if most <= 0:
            return 0
        skip = self._start + self._at - self._first
        if not 0 <= skip < len(self._held):
            self._first, self._held = self._stock.piece(self._start + self._at)
            skip = self._start + self._at - self._first
        data = self._held[skip : skip + most]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
