"""The content of an artifact as one run of bytes, cut into pieces of one size: how it lies in the object store."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection
from itertools import accumulate
from threading import Lock
from typing import Any

from deployer.artifact import Artifact
from deployer.errors import DeployerError, GateError
from deployer.manifest import Manifest, key

SIZE = 8 << 20
"""Bytes. A node holds a piece in memory while somebody reads it, and the client one while it is made."""
READ = 1 << 20


class Piece:
    """Bytes that the object store takes and gives without a copy."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Piece, (pickle.PickleBuffer(self.data),)


class Layout:
    """Where each blob of *manifest* lies: both sides reckon the same."""

    def __init__(self, manifest: Manifest, size: int = SIZE) -> None:
        self._size = size
        self._starts = [0, *accumulate(blob.size for blob in manifest.blobs)]
        self._by_key = {key(blob): start for blob, start in zip(manifest.blobs, self._starts, strict=False)}

    def start(self, key: str) -> int:
        """The first byte of the blob of that name."""
        return self._by_key[key]

    def place(self, at: int) -> tuple[int, int]:
        """The piece in which byte *at* lies, and how far within it."""
        return divmod(at, self._size)

    def pieces(self, blobs: Collection[int]) -> list[int]:
        """The pieces in which the *blobs* lie, by their numbers in the manifest."""
        found: set[int] = set()
        for number in blobs:
            start, end = self._starts[number], self._starts[number + 1]
            if end > start:
                found.update(range(start // self._size, (end - 1) // self._size + 1))
        return sorted(found)

    def parts(self, piece: int) -> list[tuple[int, int, int]]:
        """What *piece* is made of: a blob's number, the first of its bytes, and how many."""
        begin, end = piece * self._size, (piece + 1) * self._size
        found = []
        for number, (start, stop) in enumerate(zip(self._starts, self._starts[1:], strict=False)):
            first, last = max(begin, start), min(end, stop)
            if first < last:
                found.append((number, first - start, last - first))
        return found


class Shelf:
    """An opened artifact on its way to the cluster: what some host lacks is *put* there, once, whoever asks first."""

    def __init__(self, opened: Artifact, put: Callable[[Any], Any]) -> None:
        self._opened, self._put = opened, put
        self.digest = opened.manifest.digest
        self.manifest = self._stored(Manifest(opened.manifest.entries))
        self._layout = Layout(opened.manifest)
        self._lock = Lock()
        self._pieces: dict[int, Any] = {}

    def pieces(self, blobs: Collection[int]) -> dict[int, Any]:
        """References to the pieces that hold *blobs*. Raises GateError when a file has changed, or the store takes no more."""
        with self._lock:
            wanted = self._layout.pieces(blobs)
            for number in wanted:
                if number not in self._pieces:
                    self._pieces[number] = self._stored(Piece(self._bytes(number)))
            return {number: self._pieces[number] for number in wanted}

    def _bytes(self, piece: int) -> bytearray:
        data = bytearray()
        for number, first, count in self._layout.parts(piece):
            entry = self._opened.manifest.blobs[number]
            with self._opened.open(entry) as file:
                _skip(file, first)
                part = file.read(count)
            if len(part) != count:
                raise GateError(f"{entry.path!r} changed while it was read", state="nothing was changed on any host")
            data += part
        return data

    def _stored(self, what: Any) -> Any:
        try:
            return self._put(what)
        except DeployerError:
            raise
        except Exception as error:  # ObjectStoreFullError, OutOfDiskError, …: Ray's own, and not ours to import
            raise GateError(
                "the artifact does not fit in the object store of the cluster", cause=f"{type(error).__name__}: {error}"[:400],
                state="no process has been touched", hint="give the client's node more object store memory or disk",
            ) from error  # fmt: skip


def _skip(file: Any, count: int) -> None:
    if file.seekable():
        file.seek(count)
        return
    while count > 0 and (read := file.read(min(READ, count))):
        count -= len(read)
