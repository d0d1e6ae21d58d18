"""A state.db that is damaged, newer, emptied, gone: named by every command, never overwritten; the running app is left alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from disks import all_well
from scenario import kill_quietly
from test_disk import change, database

from app import App, Result, wait_until
from deployer.errors import PreflightError
from deployer.host.state import State
from evidence import running
from victims import keeper, keepers, kill, rows

ACTS = (
    ("push",),
    ("restart",),
    ("stop",),
    ("start",),
    ("rollback",),
    ("plan",),
    ("history",),
    ("releases",),
    ("attach",),
)


def parts(app: App) -> list[Path]:
    return [database(app).with_name(f"state.db{suffix}") for suffix in ("", "-wal", "-shm")]


def forget(app: App) -> None:
    for part in parts(app):
        part.unlink(missing_ok=True)


def garbage(app: App) -> None:
    forget(app)
    database(app).write_bytes(b"garbage" * 5000)


def directory(app: App) -> None:
    forget(app)
    database(app).mkdir()


def empty(app: App) -> None:
    forget(app)
    database(app).touch()


def newer(app: App) -> None:
    change(app, "PRAGMA user_version=99")


def torn(app: App) -> None:
    """The first half of it, as a disk may leave it that was not told to sync."""
    change(app, "PRAGMA wal_checkpoint(TRUNCATE)")
    whole = database(app).read_bytes()
    forget(app)
    database(app).write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    "spoil", [garbage, *(pytest.param(one, marks=pytest.mark.full) for one in (empty, newer, directory, torn))]
)
def test_record_that_cannot_be_used_is_named_by_every_command_and_left_as_it_is(
    app: App, spoil: Callable[[App], None]
) -> None:
    app.push()
    before, signalled = running(app), len(app.lines("SIGNALS_FILE"))
    kill(keeper(app))
    kept = app.root / "kept"
    shutil.copytree(database(app).parent, kept, ignore=lambda *_: {"run"})
    spoil(app)
    spoiled = described(app)
    app.release("v3")
    for command in ACTS if spoil is garbage else (ACTS[0], ACTS[-1]):
        named(app.run(*command, check=6))
    status = app.run("status", "--json", check=0)
    assert "state.db" in status.out, status.out
    named(app.run("status", check=0), "out")
    assert described(app) == spoiled
    assert (running(app)["pid"], len(app.lines("SIGNALS_FILE"))) == (before["pid"], signalled)
    # Put back what it was: everything goes on.
    shutil.rmtree(database(app)) if database(app).is_dir() else forget(app)
    for part in parts(app):
        if (kept / part.name).exists():
            shutil.copy(kept / part.name, part)
    assert app.status()["instance"]["pid"] == before["pid"]
    app.push()
    all_well(app)


def described(app: App) -> object:
    path = database(app)
    return "directory" if path.is_dir() else path.read_bytes()


def named(result: Result, stream: str = "err") -> None:
    said = getattr(result, stream)
    assert "state.db" in said and "Traceback" not in result.err, result.out + result.err
    assert "hint" in said


def test_keeper_leaves_the_app_alone_when_its_record_is_put_aside_and_adopt_takes_it_over(app: App) -> None:
    app.push()
    before = running(app)
    aside = database(app).parent / "broken"
    aside.mkdir()  # what the hint says
    for part in parts(app):
        if part.exists():
            part.rename(aside / part.name)
    app.release("v2")
    refused = app.push(check=6)
    assert f"pid {before['pid']}" in refused.err and "record does not know it" in refused.err
    assert "record does not know it" in app.run("status", check=0).out
    assert running(app)["pid"] == before["pid"] and app.lines("SIGNALS_FILE") == []
    app.configure(adopt=f"port = {app.port}")
    app.push()
    assert running(app)["release"] == app.current()
    assert [line[:3] for line in app.lines("SIGNALS_FILE")] == [["SIGTERM", "main", str(before["pid"])]]
    assert len(keepers(app)) == 1
    assert {path.name for path in aside.iterdir()} >= {"state.db"}


def test_service_without_a_known_port_is_not_started_a_second_time_when_its_record_is_gone(app: App) -> None:
    app.configure(args=["--no-listen"], health="alive_for = '100ms'", run="")
    app.push()
    forget(app)
    app.release("v2")
    result = app.push(check=6)
    assert "record does not know it" in result.err and "[adopt]" in result.err
    assert len(app.lines("STARTS_FILE")) == 1
    [pid] = [int(line[2]) for line in app.lines("STARTS_FILE")]
    os.kill(pid, 0)


def test_record_that_is_spoiled_under_a_running_keeper_costs_the_app_nothing(app: App) -> None:
    app.push()
    before, same = running(app), keeper(app)
    for path in parts(app)[:2]:
        with open(path, "r+b") as file:
            file.write(os.urandom(path.stat().st_size))
    app.release("v2")
    result = app.push(check=6)
    assert "state.db" in result.err and "Traceback" not in result.err
    assert running(app)["pid"] == before["pid"] and app.lines("SIGNALS_FILE") == []
    assert keepers(app) == [same]
    kill(same)
    garbage(app)
    assert "state.db" in app.run("status", check=0).out
    assert running(app)["pid"] == before["pid"]


@pytest.mark.full
def test_log_of_the_record_that_lost_its_end_is_read_as_far_as_it_goes(app: App) -> None:
    app.push()
    app.release("v2")
    app.push()
    for pid in {*keepers(app), *app.processes()}:
        kill_quietly(pid)
    wal = parts(app)[1]
    parts(app)[2].unlink()
    for share in (0.9, 0.5):
        with open(wal, "r+b") as file:
            file.truncate(int(wal.stat().st_size * share))
        app.run("status", "--json", check=0)
        app.run("start", "--wait-lock", "20s", check=0)
        wait_until(app.get, what="the service serves")
        assert running(app)["release"] in {row["id"] for row in rows(app, "SELECT id FROM releases")}
        for pid in {*keepers(app), *app.processes()}:
            kill_quietly(pid)
        parts(app)[2].unlink(missing_ok=True)
        if not wal.exists():
            break


def test_record_that_the_user_may_not_open_is_named(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    path = Path("/tmp") / f"deployer-record-{os.getpid()}"
    path.mkdir(mode=0o755)
    try:
        State(path / "state.db").close()
        (path / "state.db").chmod(0o600)
        pid = os.fork()
        if pid == 0:
            os.setuid(65534)
            os._exit(_named_when_opened(path / "state.db"))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        shutil.rmtree(path)


def _named_when_opened(path: Path) -> int:
    try:
        State(path)
    except PreflightError as error:
        return 0 if str(path) in error.title and error.hint else 1
    return 2
