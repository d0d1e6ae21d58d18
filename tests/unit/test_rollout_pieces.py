"""An artifact as pieces in an object store: what was put together there is, byte for byte, what was taken apart here."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from deployer.artifact import open_artifact
from deployer.errors import GateError
from deployer.rollout.engine.pieces import SIZE, Shelf
from deployer.rollout.engine.stock import Stocks

CONTENT = {"empty": 0, "small": 10, "big": SIZE + 77, "exact": SIZE, "last": 3}


class Store:
    """Keeps what is put as bytes, as a cluster does; counts."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def put(self, what: Any) -> int:
        self.kept.append(pickle.dumps(what, protocol=5))
        return len(self.kept) - 1

    def get(self, reference: int) -> Any:
        return pickle.loads(self.kept[reference])


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    place = tmp_path / "dist"
    place.mkdir()
    for name, size in CONTENT.items():
        (place / name).write_bytes(os.urandom(size))
    return place


def test_every_file_comes_out_as_it_went_in_and_was_put_once(dist: Path) -> None:
    store = Store()
    with open_artifact(dist, ()) as opened:
        shelf, blobs = Shelf(opened, store.put), opened.manifest.blobs
        for _host in range(3):
            stock = Stocks(store.get).of(shelf.digest, [shelf.manifest])
            stock.add(shelf.pieces(range(len(blobs))))
            for entry in blobs:
                with stock.artifact.open(entry) as file:
                    assert file.read() == (dist / entry.path).read_bytes()
                with stock.artifact.open(entry) as file:
                    file.seek(entry.size // 2)
                    assert file.read() == (dist / entry.path).read_bytes()[entry.size // 2 :]
    assert stock.artifact.manifest.digest == opened.manifest.digest
    assert len(store.kept) == 1 + -(-sum(CONTENT.values()) // SIZE)


def test_only_what_a_host_lacks_travels(dist: Path) -> None:
    store = Store()
    with open_artifact(dist, ()) as opened:
        shelf = Shelf(opened, store.put)
        names = [entry.path for entry in opened.manifest.blobs]
        assert list(shelf.pieces([names.index("small")])) != []
        assert shelf.pieces([names.index("empty")]) == {}
    assert len(store.kept) == 2


def test_a_file_that_changes_meanwhile_is_refused(dist: Path) -> None:
    with open_artifact(dist, ()) as opened:
        shelf = Shelf(opened, Store().put)
        (dist / "big").write_bytes(b"another")
        with pytest.raises(GateError, match="changed"):
            shelf.pieces(range(len(opened.manifest.blobs)))
