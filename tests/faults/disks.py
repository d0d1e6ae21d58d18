"""A disk of an app's own that fills up, turns read-only and heals; and what must be true of the app on it, then and afterwards."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import SERVICES, App, Result, alive, make_app, wait_until
from victims import keepers, rows, signals_to_mains, unfinished

sys.path.insert(0, str(SERVICES))

from fill import fill

MEGABYTE = 1 << 20
INODES = 900
SIZE = "size=32m"
REQUIRED = "DEPLOYER_REQUIRE_PARTS"


class Disk:
    """The file system of its own that `app.host` is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, kind: str) -> None:
        """Take every byte, or every inode (`bytes`, `inodes`)."""
        fill(kind, str(self.path))

    def command(self, kind: str) -> str:
        """A shell command that does the same."""
        return f"{sys.executable} -S {SERVICES / 'fill.py'} {kind} {self.path}"

    def free(self) -> None:
        """Give back what was taken."""
        for filler in self.path.glob("filler*"):
            filler.unlink()

    def remount(self, mode: str) -> None:
        """`ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.path)], check=True)


@contextmanager
def app_on_a_disk(root: Path, options: str = f"{SIZE},nr_inodes={INODES}") -> Iterator[tuple[App, Disk]]:
    """An app whose host path is a small disk of its own. Skips where that cannot be mounted, fails where it must be possible."""
    path = root / "host"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        missing("only root can mount a small disk")
    disk = Disk(path)
    try:
        with make_app(root) as app:
            try:
                yield app, disk
            finally:
                disk.remount("rw")
                disk.free()
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def missing(why: str) -> None:
    """Skip; fail where every part must be there."""
    if os.environ.get(REQUIRED):
        pytest.fail(why)
    pytest.skip(why)


def whole(app: App) -> None:
    """Assert that state.db can be read and is not torn."""
    database = sqlite3.connect(f"file:{app.host}/.deployer/state.db?mode=ro", uri=True, timeout=10)
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        database.close()


def told_clearly(result: Result) -> None:
    """Assert that a command that failed says what happened, why, how things stand and what to do next."""
    assert "Traceback" not in result.err and "this is a bug" not in result.err, result.err
    if result.code not in (0, 5):
        for word in ("error: ", "cause: ", "state: ", "hint: "):
            assert word in result.err, f"exit {result.code} without {word!r}:\n{result.out}\n{result.err}"


def looks_work(app: App) -> None:
    """Assert that every command that only looks works, whatever the disk does."""
    for command in ("status", "history", "releases"):
        result = app.run(command, "--json", check=0)
        assert '"error":null' in result.out.replace(" ", "") or command != "status", result.out


def all_well(app: App) -> None:
    """Assert the promises: one process serves what `current` says, each deploy is ended once, nobody was signalled twice."""
    wait_until(lambda: not unfinished(app), within=40, what="every deploy is ended")
    health = wait_until(app.get, what="the service serves")
    assert health["release"] == app.current()
    mains = [int(line[2]) for line in app.lines("STARTS_FILE") if line[1] == "main"]
    assert [pid for pid in mains if alive(pid)] == [health["pid"]]
    assert max(signals_to_mains(app).values(), default=0) <= 1, app.lines("SIGNALS_FILE")
    assert len(keepers(app)) == 1
    told = rows(
        app, "SELECT deploy, count(*) AS times FROM events WHERE event LIKE '%\"host.finished\"%' GROUP BY deploy"
    )
    assert {row["times"] for row in told} == {1}, told
    assert len(told) == len(rows(app, "SELECT id FROM deploys"))
    whole(app)


class Broken(Disk):
    """An ext4 of its own (a loop device) that can be made to give up, as one does that has met an error: `errors=remount-ro`."""

    def __init__(self, path: Path, image: Path) -> None:
        super().__init__(path)
        self._image = image

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self.path)], check=True)

    def give_up(self) -> None:
        """Refuse every write from now on, also through files that are open; what was not on the disk is lost."""
        subprocess.run(["mount", "-o", "remount,abort", str(self.path)], check=True)
        try:
            (self.path / "last").touch()  # the first write that it refuses makes it read-only
        except OSError:
            pass

    def repair(self) -> None:
        """What a person does then, once nobody uses it any more: check it, mount it again."""
        subprocess.run(["umount", str(self.path)], check=True)
        wait_until(lambda: not self._held(), 30, what=f"nobody has {self.path} mounted, but for {holders(self.path)}")
        checked = subprocess.run(["fsck.ext4", "-p", str(self._image)], capture_output=True, text=True)
        assert checked.returncode in (0, 1), checked.stdout + checked.stderr
        self.mount()

    def _held(self) -> bool:
        """
        Whether the broken disk is mounted still. A test beside us that has just made a mount namespace has a copy of every mount
        until it lets them go; mounted again meanwhile, the kernel would give us the broken one back, read-only.
        """
        loops = subprocess.run(["losetup", "-n", "-O", "NAME", "-j", str(self._image)], capture_output=True, text=True)
        assert loops.returncode == 0, loops.stderr
        return bool(loops.stdout.strip())


def holders(path: Path) -> list[str]:
    """The processes in whose mount namespace something is mounted at *path*."""
    found = []
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if f" {path} " in mounts.read_text():
                found.append(f"{mounts.parent.name} ({(mounts.parent / 'comm').read_text().strip()})")
        except OSError:
            pass  # it has gone
    return found


@contextmanager
def app_on_ext4(root: Path) -> Iterator[tuple[App, Broken]]:
    """An app whose host path is an ext4 of its own. Skips where that cannot be made, fails where it must be possible."""
    path, image = root / "host", root / "disk.img"
    path.mkdir()
    with open(image, "wb") as file:
        file.truncate(64 * MEGABYTE)
    disk = Broken(path, image)
    try:
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
        disk.mount()
    except (OSError, subprocess.CalledProcessError) as error:
        missing(f"no ext4 on a loop device here: {error}")
    try:
        with make_app(root) as app:
            yield app, disk
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
