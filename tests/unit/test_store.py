from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from release_files import file, fill, small_disk

from deployer.errors import GateError, PreflightError
from deployer.host.store import Store
from deployer.manifest import Manifest, key


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def blobs(root: Path) -> list[str]:
    return sorted(os.listdir(root / "blobs"))


def incoming(root: Path) -> list[str]:
    return os.listdir(root / "incoming")


def test_a_received_blob_is_no_longer_missing_and_each_is_asked_for_once(root: Path) -> None:
    store = Store(root)
    manifest = Manifest([file("a", b"1"), file("copy", b"1"), file("b", b"2"), file("private", b"1", 0o600)])
    assert sorted(key(entry)[-4:] for entry in store.missing(manifest)) == ["-600", "-644", "-644"]
    store.receive(key(file("a", b"1")), 1, [b"1"])
    assert sorted(entry.path for entry in store.missing(manifest)) == ["b", "private"]


def test_blobs_of_a_link_that_broke_are_not_taken_for_being_on_the_disk(root: Path) -> None:
    """Nobody has synced them: a commit that finds them here must."""
    entry = file("a", b"a")
    Store(root).receive(key(entry), 1, [b"a"])
    after = Store(root)
    assert after.missing(Manifest([entry])) == []
    assert after.unsynced
    after.sync()
    again = Store(root)
    assert again.missing(Manifest([entry])) == []
    assert not again.unsynced


def test_a_blob_has_its_mode_and_the_store_is_private(root: Path, tmp_path: Path) -> None:
    store = Store(root)
    entry = file("a", b"secret", 0o600)
    store.receive(key(entry), 6, [b"sec", b"", b"ret"])
    assert store.link(entry, str(tmp_path / "a"))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert (tmp_path / "a").read_bytes() == b"secret"
    store.sync()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (root, root / "blobs", root / "incoming")} == {0o700}
    assert stat.S_IMODE((root / "store.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("chunks", [[b"wrong"], [b"abc"], [b"abcdef"], [], [b"abcde" * 1000]])
def test_damaged_bytes_never_get_a_name(root: Path, chunks: list[bytes]) -> None:
    store = Store(root)
    with pytest.raises(GateError) as caught:
        store.receive(key(file("a", b"abcde")), 5, chunks)
    assert caught.value.code == 7
    assert blobs(root) == [] and incoming(root) == []


@pytest.mark.parametrize(
    "name", ["", "../../x", "a" * 64, "a" * 64 + "-6440", "A" * 64 + "-644", "a" * 64 + "-844", "a" * 64 + "-644\n"]
)
def test_a_name_that_is_no_key_is_refused(root: Path, name: str) -> None:
    with pytest.raises(GateError):
        Store(root).receive(name, 1, [b"x"])
    assert incoming(root) == []


def test_a_link_that_breaks_leaves_nothing_and_says_so_itself(root: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"a"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        Store(root).receive(key(file("a", b"ab")), 2, breaking())
    assert blobs(root) == [] and incoming(root) == []


def test_a_full_disk_is_told_with_figures_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as disk:
        store = Store(disk / "store")
        content = os.urandom(2_000_000)
        with pytest.raises(PreflightError) as caught:
            store.receive(key(file("a", content)), len(content), [content[:500_000], content[500_000:]])
        assert incoming(disk / "store") == [] and blobs(disk / "store") == []
        assert "bytes" in str(caught.value.cause) and "free" in str(caught.value.cause)
        assert caught.value.state == "the running release was not touched"
        assert caught.value.hint
        fill(store, {"small": b"fits"})


def test_no_inodes_left_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=4m,nr_inodes=12") as disk:
        store = Store(disk / "store")
        with pytest.raises(PreflightError, match="could not store") as caught:
            fill(store, {str(number): b"%d" % number for number in range(20)})
        assert "0 inodes free" in str(caught.value.cause)
        assert incoming(disk / "store") == []


def test_a_poisoned_blob_is_sent_again_and_the_release_that_wrote_it_keeps_its_file(root: Path, tmp_path: Path) -> None:
    store = Store(root)
    manifest = fill(store, {"config": b"good", "other": b"untouched"})
    store.sync()
    store.link(manifest.files[0], str(tmp_path / "old"))
    with (tmp_path / "old").open("r+b") as app:  # the app writes in place, same size, at once
        app.write(b"evil")
    for again in (store, Store(root)):
        assert [entry.path for entry in again.missing(manifest)] == ["config"]
    assert (tmp_path / "old").read_bytes() == b"evil"
    store.receive(key(manifest.files[0]), 4, [b"good"])
    store.link(manifest.files[0], str(tmp_path / "new"))
    assert (tmp_path / "new").read_bytes() == b"good"
    assert (tmp_path / "old").read_bytes() == b"evil"


def test_a_poisoned_blob_is_never_linked(root: Path, tmp_path: Path) -> None:
    store = Store(root)
    (entry,) = fill(store, {"a": b"good"}).files
    (root / "blobs" / key(entry)).write_bytes(b"evil")
    with pytest.raises(GateError):
        store.link(entry, str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_a_blob_is_dated_back_so_that_a_write_at_once_shows(root: Path) -> None:
    # Two writes within one tick of the file system's clock would have one mtime, and the second go unseen.
    (entry,) = fill(Store(root), {"a": b"x"}).files
    assert (root / "blobs" / key(entry)).stat().st_mtime <= time.time() - 1


def test_a_blob_whose_mode_was_changed_is_sent_again(root: Path, tmp_path: Path) -> None:
    store = Store(root)
    manifest = fill(store, {"secret": b"x"}, 0o600)
    store.link(manifest.files[0], str(tmp_path / "a"))
    (tmp_path / "a").chmod(0o666)
    assert len(store.missing(manifest)) == 1


def test_a_blob_that_was_only_touched_is_kept(root: Path) -> None:
    store = Store(root)
    manifest = fill(store, {"a": b"x"})
    os.utime(root / "blobs" / key(manifest.files[0]))
    assert store.missing(manifest) == []


def test_a_manifest_with_a_wrong_size_does_not_cost_the_blob(root: Path) -> None:
    store = Store(root)
    manifest = fill(store, {"a": b"x"})
    lying = Manifest([type(manifest.files[0])(**{**vars(manifest.files[0]), "size": 7})])
    assert len(store.missing(lying)) == 1
    assert store.missing(manifest) == []


def test_known_blobs_are_not_read_again_and_unknown_ones_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(root)
    manifest = fill(store, {"a": b"x", "b": b"y"})
    assert Store(root).missing(manifest) == []  # not synced: proven by their content
    store.sync()

    def hashed(path: str) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("deployer.host.store.hash_blob", hashed)
    assert Store(root).missing(manifest) == []
    os.utime(root / "blobs" / key(manifest.files[0]))
    with pytest.raises(AssertionError):
        Store(root).missing(manifest)


def test_a_damaged_index_is_made_anew(root: Path) -> None:
    store = Store(root)
    manifest = fill(store, {"a": b"x"})
    store.sync()
    for damage in (b"not a database", b"SQLite format 3\0" + b"\xff" * 5000, b""):
        (root / "store.db").write_bytes(damage)
        again = Store(root)
        assert again.missing(manifest) == []
        again.sync()
        rows = sqlite3.connect(root / "store.db").execute("select key from blob").fetchall()
        assert rows == [(key(manifest.files[0]),)]


def test_a_blob_torn_by_a_power_cut_is_missing(root: Path) -> None:
    manifest = fill(Store(root), {"a": b"whole"})
    (root / "blobs" / key(manifest.files[0])).write_bytes(b"")
    assert len(Store(root).missing(manifest)) == 1


@pytest.mark.parametrize("number", [errno.EMLINK, errno.EXDEV, errno.EPERM])
def test_where_it_cannot_link_it_copies(
    root: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(root)
    (entry,) = fill(store, {"a": b"content"}, 0o640).files

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("deployer.host.store.os.link", refuse)
    assert not store.link(entry, str(tmp_path / "a"))
    copy, blob = (tmp_path / "a").stat(), (root / "blobs" / key(entry)).stat()
    assert (tmp_path / "a").read_bytes() == b"content"
    assert copy.st_ino != blob.st_ino
    assert (stat.S_IMODE(copy.st_mode), copy.st_mtime_ns) == (0o640, blob.st_mtime_ns)


def test_it_really_copies_to_another_file_system(root: Path, tmp_path: Path) -> None:
    store = Store(root)
    (entry,) = fill(store, {"a": b"content"}).files
    with small_disk(tmp_path / "other") as other:
        assert not store.link(entry, str(other / "a"))
        assert (other / "a").read_bytes() == b"content"


def test_link_never_replaces_or_follows_what_stands_there(root: Path, tmp_path: Path) -> None:
    store = Store(root)
    (entry,) = fill(store, {"a": b"content"}).files
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "a").symlink_to("victim")
    with pytest.raises(GateError):
        store.link(entry, str(tmp_path / "a"))
    assert (tmp_path / "victim").read_text() == "mine"


def test_collect_keeps_what_is_in_use_and_clears_the_rest(root: Path) -> None:
    store = Store(root)
    used, unused = fill(store, {"a": b"1", "b": b"2"}), fill(store, {"b": b"2", "c": b"3"})
    store.sync()
    (root / "incoming" / "stale").write_text("half")
    assert store.collect({key(entry) for entry in used.files}) == 1
    assert incoming(root) == []
    assert Store(root).missing(used) == []
    assert [entry.path for entry in Store(root).missing(unused)] == ["c"]
    assert store.collect(set()) == 2
    assert blobs(root) == []


def test_a_file_where_the_store_should_be_is_an_error_for_a_person(root: Path) -> None:
    root.write_text("in the way")
    with pytest.raises((PreflightError, GateError)) as caught:
        Store(root)
    assert caught.value.hint and caught.value.state


def test_5000_files_do_not_take_long(root: Path) -> None:
    store = Store(root)
    manifest = fill(store, {f"d{number % 50}/{number}": b"%d" % number for number in range(5000)})
    store.sync()
    began = time.process_time()  # the wall clock is everybody's
    assert Store(root).missing(manifest) == []
    assert time.process_time() - began < 5


def test_an_empty_file_is_a_blob_like_any_other(root: Path, tmp_path: Path) -> None:
    store = Store(root)
    (entry,) = fill(store, {"__init__.py": b""}).files
    assert entry.sha256 == hashlib.sha256().hexdigest()
    assert store.link(entry, str(tmp_path / "x")) and (tmp_path / "x").read_bytes() == b""
