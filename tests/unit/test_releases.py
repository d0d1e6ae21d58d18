from __future__ import annotations

import errno
import os
import stat
import threading
import time
from pathlib import Path

import pytest
from release_files import file, fill, small_disk

from deployer.errors import DeployerError, GateError, PreflightError
from deployer.host.releases import Releases, Staged
from deployer.host.store import Store
from deployer.manifest import Entry, Manifest, key


class Host:
    """One app's directory with a store, and releases staged in a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.releases = Releases(path)
        self.releases.prepare()
        self.store = Store(path / ".deployer" / "store")

    def stage(self, release_id: str, content: dict[str, bytes] | None = None, *others: Entry) -> Path:
        manifest = fill(self.store, {"app": b"code"} if content is None else content)
        self.releases.stage(release_id, Manifest([*manifest.entries, *others]), self.store)
        return self.path / "releases" / release_id

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path / "releases"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "app")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_prepare_makes_private_what_is_private_and_readable_what_is_served(host: Host) -> None:
    assert {
        name: oct(mode(host.path / name))
        for name in ("", "releases", "shared", "logs", ".deployer", ".deployer/manifests")
    } == {
        "": "0o755",
        "releases": "0o755",
        "shared": "0o711",
        "logs": "0o700",
        ".deployer": "0o700",
        ".deployer/manifests": "0o700",
    }
    (host.path / "shared").chmod(0o750)
    (host.path / ".deployer").chmod(0o755)
    host.releases.prepare()
    assert (mode(host.path / "shared"), mode(host.path / ".deployer")) == (0o750, 0o700)


@pytest.mark.parametrize("name", ["releases", ".deployer"])
def test_prepare_refuses_a_link_or_a_file_in_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name).symlink_to("elsewhere")
    with pytest.raises(PreflightError):
        Releases(tmp_path).prepare()
    (tmp_path / name).unlink()
    (tmp_path / name).write_text("")
    with pytest.raises(PreflightError):
        Releases(tmp_path).prepare()


def test_a_release_is_staged_as_its_manifest_says(host: Host) -> None:
    entries = [
        Entry("bin", "d", 0o750),
        Entry("locked", "d", 0o555),
        Entry("l", "l", 0o777, target="/etc"),
        Entry("x/l", "l", 0o777, target="../bin"),
    ]
    manifest = Manifest(
        [
            *entries,
            *fill(host.store, {"bin/run": b"#!"}, 0o755).files,
            *fill(host.store, {"locked/s": b"s"}, 0o600).files,
        ]
    )
    assert host.releases.stage("r1", manifest, host.store) == Staged(2, 3, 2)
    root = host.path / "releases" / "r1"
    assert [mode(root / name) for name in ("", "bin", "locked", "x", "bin/run", "locked/s")] == [
        0o755,
        0o750,
        0o555,
        0o755,
        0o755,
        0o600,
    ]
    assert os.readlink(root / "l") == "/etc" and os.readlink(root / "x/l") == "../bin"
    assert host.releases.manifest("r1") == manifest
    record = host.path / ".deployer/manifests/r1.json"
    assert mode(record) == 0o600 and os.listdir(record.parent) == ["r1.json"]


def test_two_releases_share_what_is_equal_and_removing_one_keeps_the_other(host: Host) -> None:
    one, two = host.stage("r1", {"same": b"s", "a": b"1"}), host.stage("r2", {"same": b"s", "a": b"2"})
    assert (one / "same").stat().st_ino == (two / "same").stat().st_ino
    host.releases.remove("r1")
    assert (two / "same").read_bytes() == b"s" and host.names() == ["r2"]


def test_blobs_of_a_release_are_those_of_its_manifest(host: Host) -> None:
    host.stage("r1", {"a": b"1", "b": b"2", "same": b"1"}, Entry("link", "l", 0o777, target="a"))
    manifest = host.releases.manifest("r1")
    assert manifest is not None
    assert host.releases.blobs("r1") == {key(entry) for entry in manifest.files} and len(host.releases.blobs("r1")) == 2


@pytest.mark.parametrize(
    "record", ["", "[", "{}", "[1]", '["f"]', '[{"type": "f"}]', '[{"type": "f", "sha256": 1, "mode": "x"}]']
)
def test_record_that_cannot_be_read_names_no_blobs(host: Host, record: str) -> None:
    host.stage("r1")
    next((host.path / ".deployer").rglob("r1.json")).write_text(record)
    assert host.releases.blobs("r1") == set()


def test_a_half_staged_release_is_replaced_and_is_never_listed(host: Host) -> None:
    half = host.path / "releases" / "r1"
    half.mkdir()
    (half / "leftover").write_text("half")
    assert host.releases.listing() == []
    host.stage("r1", {"app": b"new"})
    assert os.listdir(half) == ["app"] and host.releases.listing() == ["r1"]


def test_a_link_in_the_way_of_a_release_is_not_followed(host: Host, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "mine").write_text("mine")
    (host.path / "releases" / "r1").symlink_to(tmp_path / "victim")
    host.stage("r1")
    assert os.listdir(tmp_path / "victim") == ["mine"]
    assert not (host.path / "releases" / "r1").is_symlink()


def test_the_current_release_is_never_staged_over_or_removed(host: Host) -> None:
    root = host.stage("r1")
    host.releases.flip("r1")
    for attempt in (lambda: host.stage("r1", {"app": b"other"}), lambda: host.releases.remove("r1")):
        with pytest.raises(PreflightError):
            attempt()
    assert (root / "app").read_bytes() == b"code"


@pytest.mark.parametrize("release_id", ["..", ".", "", "a/b", "../x", ".hidden", "a\n"])
def test_an_id_that_leads_elsewhere_is_refused(host: Host, release_id: str) -> None:
    for attempt in (host.stage, host.releases.flip, host.releases.remove):
        with pytest.raises(GateError):
            attempt(release_id)


def test_a_failed_staging_leaves_nothing_under_its_id(host: Host) -> None:
    with pytest.raises(GateError):
        host.releases.stage("r1", Manifest([file("never-sent")]), host.store)
    assert host.names() == [] and os.listdir(host.path / ".deployer/manifests") == []


def test_a_full_disk_while_staging_is_told_and_the_old_release_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=8m,nr_inodes=60") as disk:
        host = Host(disk / "app")
        old = host.stage("r1")
        host.releases.flip("r1")
        manifest = Manifest(
            [*fill(host.store, {"app": b"code"}).files, *(Entry(f"d{n}", "d", 0o755) for n in range(100))]
        )
        with pytest.raises(PreflightError) as caught:
            host.releases.stage("r2", manifest, host.store)
        assert caught.value.code == 6 and caught.value.state == "the running release was not touched"
        assert "0 inodes free" in str(caught.value.cause)
        assert host.names() == ["r1"] and host.releases.current() == "r1" and (old / "app").exists()


def test_a_name_too_long_for_the_disk_is_the_releases_fault(host: Host) -> None:
    with pytest.raises(GateError):
        host.stage("r1", {"x" * 300: b""})
    assert host.names() == []


def test_flip_swaps_current_without_a_gap(host: Host) -> None:
    for name in ("r1", "r2"):
        host.stage(name, {"app": name.encode()})
    host.releases.flip("r1")
    done, seen = threading.Event(), set()

    def look() -> None:
        while not done.is_set():
            seen.add((host.path / "current" / "app").read_bytes())

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(100):
            host.releases.flip("r2")
            host.releases.flip("r1")
    finally:
        done.set()
        looker.join()
    assert seen <= {b"r1", b"r2"} and seen
    assert os.readlink(host.path / "current") == "releases/r1" and host.releases.current() == "r1"


def test_flip_survives_what_a_crash_left_and_refuses_what_it_did_not_make(host: Host) -> None:
    host.stage("r1")
    (host.path / ".current.next").symlink_to("releases/old")
    host.releases.flip("r1")
    with pytest.raises(GateError):
        host.releases.flip("gone")
    assert host.releases.current() == "r1"
    (host.path / "current").unlink()
    (host.path / "current").mkdir()
    with pytest.raises(PreflightError):
        host.releases.flip("r1")
    assert (host.path / "current").is_dir() and host.releases.current() is None


@pytest.mark.parametrize("target", ["/etc", "releases", "releases/../shared", "releases/a/b", "elsewhere/r1"])
def test_a_current_that_points_elsewhere_is_none_of_ours(host: Host, target: str) -> None:
    (host.path / "current").symlink_to(target)
    assert host.releases.current() is None


def test_an_absolute_current_is_understood(host: Host) -> None:
    host.stage("r1")
    (host.path / "current").symlink_to(host.path / "releases" / "r1")
    assert host.releases.current() == "r1"


def test_prune_keeps_the_newest_the_protected_and_the_current(host: Host) -> None:
    for number in range(1, 8):
        host.stage(f"r{number}")
    host.releases.flip("r1")
    order = ["gone", *(f"r{number}" for number in range(7, 0, -1))]
    assert host.releases.prune(3, {"r3"}, order) == ["r4", "r2"]
    assert host.releases.listing() == ["r1", "r3", "r5", "r6", "r7"]
    assert sorted(os.listdir(host.path / ".deployer/manifests")) == [f"r{n}.json" for n in (1, 3, 5, 6, 7)]
    assert host.releases.prune(1, [], order) == ["r6", "r5", "r3"]
    assert host.releases.prune(0, [], order) == ["r7"]
    assert host.releases.listing() == ["r1"]


def test_prune_leaves_strangers_alone_and_clears_what_crashes_left(host: Host) -> None:
    host.stage("r1")
    releases, manifests = host.path / "releases", host.path / ".deployer/manifests"
    (releases / "notes.txt").write_text("mine")
    (releases / "20200101T000000Z-aaaaaa").mkdir()
    (releases / "evil").symlink_to("/")
    for name in (".removed-r0", "half"):
        (releases / name / "sub").mkdir(parents=True)
    (manifests / "half.staging").write_text("")
    (manifests / "r1.staging").write_text("")  # a crash between the last two steps of staging: it is whole
    assert host.releases.prune(1, [], ["r1", "evil", "notes.txt", "20200101T000000Z-aaaaaa"]) == []
    assert host.names() == ["20200101T000000Z-aaaaaa", "evil", "notes.txt", "r1"]
    assert host.releases.listing() == ["r1"]


def test_read_only_directories_are_removed_also_by_a_plain_user(host: Host) -> None:
    root = host.stage("r1", {"cache/mod/file": b"x"})
    (root / "cache/mod").chmod(0o555)
    (root / "cache").chmod(0o000)
    if os.geteuid() == 0:
        for path in [host.path.parent, *host.path.parent.parents][:-2]:  # all below /tmp
            path.chmod(path.stat().st_mode | 0o111)
        for parent, directories, files in os.walk(host.path):
            for name in [parent, *(os.path.join(parent, one) for one in directories + files)]:  # noqa: PTH118
                os.lchown(name, 65534, 65534)
        child = os.fork()
        if child == 0:
            try:
                os.setgid(65534)
                os.setuid(65534)
                host.releases.remove("r1")
            except BaseException as error:
                print(error, getattr(error, "cause", ""))
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    else:
        host.releases.remove("r1")
    assert host.names() == []


def test_a_shared_directory_is_seeded_once_and_never_overwritten(host: Host) -> None:
    one = host.stage("r1", {"data/seed": b"v1", "app": b"a"})
    host.releases.link_shared("r1", ["data"])
    shared = host.path / "shared" / "data"
    assert os.readlink(one / "data") == "../../shared/data"
    (one / "data" / "written").write_text("by the app")
    (shared / "seed").write_text("changed")
    two = host.stage("r2", {"data/seed": b"v2", "app": b"a"})
    host.releases.link_shared("r2", ["data"])
    assert (two / "data" / "seed").read_text() == "changed" and (two / "data" / "written").read_text() == "by the app"
    host.releases.remove("r1")
    assert (shared / "written").exists()


def test_a_seed_is_a_copy_that_cannot_poison_the_store(host: Host) -> None:
    host.stage("r1", {"data/seed": b"v1"})
    host.releases.link_shared("r1", ["data"])
    (host.path / "shared/data/seed").write_text("xx")
    assert host.store.missing(Manifest([file("data/seed", b"v1")])) == []
    two = host.stage("r2", {"data/seed": b"v1"})
    assert (two / "data/seed").read_bytes() == b"v1"
    assert (two / "data/seed").stat().st_ino != (host.path / "shared/data/seed").stat().st_ino


def test_linked_paths_become_what_their_names_say(host: Host) -> None:
    root = host.stage("r1", {"LICENCE": b"text", "config/app.toml": b"shipped", "app": b""})
    host.releases.link_shared(
        "r1", ["uploads", "db.sqlite3", ".env", "LICENCE", "config/app.toml", "deep/down/cache", "conf.d/"]
    )
    shared = host.path / "shared"
    for name in ("uploads", "deep/down/cache", "conf.d"):
        assert (shared / name).is_dir() and (root / name).is_symlink()
    for name in ("db.sqlite3", ".env"):
        assert (root / name).is_symlink() and not (root / name).exists()
        (root / name).write_text("made by the app")
        assert (shared / name).read_text() == "made by the app"
    assert (shared / "LICENCE").read_bytes() == b"text" and (shared / "config/app.toml").read_bytes() == b"shipped"
    assert os.readlink(root / "deep/down/cache") == "../../../../shared/deep/down/cache"


def test_linking_again_changes_nothing(host: Host) -> None:
    root = host.stage("r1", {"data/seed": b"v1"})
    for _ in range(2):
        host.releases.link_shared("r1", ["data", "a.db"])
    assert (root / "data/seed").read_bytes() == b"v1" and os.readlink(root / "a.db") == "../../shared/a.db"


@pytest.mark.parametrize("path", ["../x", "/etc", "", ".", "a/../b", "a//b", "//"])
def test_a_linked_path_that_leaves_the_release_is_refused(host: Host, path: str) -> None:
    host.stage("r1")
    with pytest.raises(GateError):
        host.releases.link_shared("r1", [path])


def test_a_linked_path_through_a_link_is_refused(host: Host, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    out = str(tmp_path / "victim")
    host.stage("r1", None, Entry("link", "l", 0o777, target=out), Entry("here", "l", 0o777, target=out))
    (host.path / "shared/there").symlink_to(out)
    for path in ("link/data", "there/data", "app/data", "here"):
        with pytest.raises(GateError):
            host.releases.link_shared("r1", [path])
    with pytest.raises(GateError):
        host.releases.link_shared("r1", ["data", "data/inner"])
    assert os.listdir(tmp_path / "victim") == []


def test_a_seed_that_does_not_fit_is_not_left_half(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=3m") as disk:
        host = Host(disk / "app")
        host.stage("r1", {"data/a": os.urandom(1_000_000), "data/b": os.urandom(1_000_000)})
        with pytest.raises(PreflightError):
            host.releases.link_shared("r1", ["data"])
        assert os.listdir(disk / "app/shared") == []


def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=1m,ro") as disk:
        with pytest.raises(DeployerError) as caught:
            Releases(disk / "app").prepare()
        assert caught.value.code == 6 and "Read-only" in str(caught.value.cause) and caught.value.hint


def test_staging_5000_files_does_not_take_long(host: Host) -> None:
    manifest = fill(host.store, {f"d{number % 50}/{number}": b"%d" % number for number in range(5000)})
    host.releases.stage("r1", manifest, host.store)
    began = time.process_time()  # the wall clock is everybody's
    assert host.releases.stage("r2", manifest, host.store).linked == 5000
    assert time.process_time() - began < 5


def test_flip_and_the_way_back_need_nothing_of_a_full_disk_once_they_are_prepared(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    for release in ("r1", "r2"):
        host.stage(release)
    host.releases.flip("r1")
    host.releases.prepare_flip("r2")
    monkeypatch.setattr(os, "symlink", refused)
    host.releases.flip("r2")
    assert host.releases.current() == "r2"
    host.releases.flip("r1")
    assert host.releases.current() == "r1"


def test_way_back_is_forgotten_and_never_taken_for_another_release(host: Host) -> None:
    for release in ("r1", "r2"):
        host.stage(release)
    host.releases.flip("r1")
    host.releases.flip("r2")
    host.releases.forget_way_back()
    assert not [name for name in os.listdir(host.path) if name.startswith(".current")]
    host.releases.flip("r1")
    assert host.releases.current() == "r1"


def refused(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
