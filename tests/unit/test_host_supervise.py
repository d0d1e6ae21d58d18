"""The keeper's mind, on real processes: what an earlier keeper left is gone on with, neither forgotten nor done twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import wait_until
from deployer.host import spawn
from deployer.host.clock import Clock
from deployer.host.paths import HostPaths
from deployer.host.process import Processes
from deployer.host.state import State
from deployer.host.supervise import Core
from deployer.model import DrainOrder, Spec

SLEEP = "import time; time.sleep(60)"
NOTE = (
    "import os, signal, time; signal.signal(15, lambda *_: os.write(1, b'heard\\n')); "
    "signal.signal(signal.SIGWINCH, lambda *_: os.write(1, b'listens\\n')); os.write(1, b'up\\n'); "
)
STAY = NOTE + "[time.sleep(0.05) for _ in range(2000)]"


class OfOneTest(Processes):
    """Instances are called "a" in many tests, which run beside each other: those of others are not seen as ours."""

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = f"TEST_RUN={run}".encode()

    def environ(self, pid: int) -> bytes:
        found = super().environ(pid)
        return found if b"DEPLOYER_INSTANCE=" not in found or self._run in found else b""


class Host:
    """One app's directory; `keeper()` is a keeper's mind that has just come up on it, after whatever happened before."""

    def __init__(self, root: Path) -> None:
        self.paths = HostPaths(root)
        self.paths.prepare_private()
        self.state = State(self.paths.state)
        self.said: list[str] = []
        self.pids: set[int] = set()

    def keeper(self) -> Core:
        run = str(self.paths.root)
        core = Core(self.paths, State(self.paths.state), OfOneTest(run), Clock(), {"TEST_RUN": run}, self.said.append)
        core.recover()
        return core

    def spec(self, name: str, code: str, **more: Any) -> Spec:
        return Spec(name, f"r-{name}", "app", (sys.executable, "-S", "-c", code), str(self.paths.root), **more)

    def row(self, name: str) -> dict[str, Any]:
        found = self.state.row("SELECT * FROM instances WHERE id=?", name)
        assert found is not None
        if found["pid"]:
            self.pids.add(found["pid"])
        return found

    def log(self) -> list[str]:
        return self.paths.app_log.read_text().split() if self.paths.app_log.exists() else []

    def start(self, name: str, code: str, confirmed: bool = True) -> Core:
        core = self.keeper()
        core.replace("d1", "me", self.spec(name, code), DrainOrder(), confirmed)
        core.advance()
        assert self.row(name)["state"] == "running"
        return core


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    for row in made.state.rows("SELECT pid FROM instances WHERE pid IS NOT NULL"):
        made.pids.add(row["pid"])
    for pid in made.pids:
        end(pid)


def end(pid: int) -> None:
    """Kill *pid*, which may be a child of ours, and bury it."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def turn(core: Core) -> bool:
    core.reap()
    core.advance()
    return True


def test_asking_twice_is_asking_once(host: Host) -> None:
    core = host.start("a", SLEEP)
    pid = host.row("a")["pid"]
    core.replace("d1", "me", host.spec("a", SLEEP), DrainOrder(), True)
    core.advance()
    assert host.row("a")["pid"] == pid and core.drains == {}


def test_next_keeper_takes_over_what_runs(host: Host) -> None:
    host.start("a", SLEEP)
    core = host.keeper()
    core.advance()
    assert list(core.instances) == ["a"] and len(host.state.rows("SELECT * FROM instances")) == 1


def test_promise_that_was_never_started_is_started_once(host: Host) -> None:
    host.keeper().replace("d1", "me", host.spec("a", SLEEP), DrainOrder())
    core = host.keeper()
    core.advance()
    core.advance()
    assert host.row("a")["state"] == "running" and len(core.instances) == 1


def test_process_that_was_announced_and_executed_is_taken_over_and_not_started_twice(host: Host) -> None:
    host.start("a", SLEEP)
    pid = host.row("a")["pid"]
    host.state.update("instances", "a", state="promised")  # its keeper died before it could say that it runs
    core = host.keeper()
    core.advance()
    assert (host.row("a")["state"], host.row("a")["pid"]) == ("running", pid)


def test_process_that_was_announced_and_never_executed_is_started_again(host: Host) -> None:
    host.keeper().replace("d1", "me", host.spec("a", SLEEP), DrainOrder())
    gone = subprocess.Popen(["true"])
    gone.wait()
    host.state.update("instances", "a", pid=gone.pid, start=1, boot=Processes().boot)
    host.keeper().advance()
    assert host.row("a")["state"] == "running" and host.row("a")["pid"] != gone.pid


def test_nothing_is_executed_when_it_cannot_be_announced(tmp_path: Path) -> None:
    def refuse(pid: int) -> None:
        raise OSError(28, "No space left on device")

    with open(tmp_path / "out", "wb") as out, pytest.raises(OSError, match="No space"):
        spawn.spawn(["sh", "-c", "echo hello"], str(tmp_path), dict(os.environ), out.fileno(), announce=refuse)
    assert (tmp_path / "out").read_bytes() == b""


@pytest.mark.parametrize(("marked", "sent_at", "heard"), [(False, None, 1), (True, None, 0), (False, 1.0, 0)])
def test_signal_goes_out_once_wherever_a_keeper_died(
    host: Host, marked: bool, sent_at: float | None, heard: int
) -> None:
    host.start("a", STAY)
    wait_until(lambda: host.log() == ["up"], what="it is up")
    row = host.row("a")
    host.keeper().replace("d2", "me", None, DrainOrder(ceiling=30))
    host.state.insert(
        "signals", instance="a", pid=row["pid"], start=row["start"], signal="SIGTERM", intended_at=1.0, sent_at=sent_at
    )
    if marked:
        host.state.mark(f"signal-a-{row['pid']}-{row['start']}")
    core = host.keeper()
    for _ in range(3):
        core.advance()
    os.kill(row["pid"], signal.SIGWINCH)  # of a higher number: what was sent before is heard before
    wait_until(lambda: "listens" in host.log(), what="it has heard all that was sent")
    assert host.log()[1:] == [*["heard"] * heard, "listens"]


def test_crashed_instance_comes_back_as_another_one_after_a_while(host: Host) -> None:
    core = host.start("a", "raise SystemExit(3)")
    wait_until(lambda: turn(core) and host.row("a")["state"] == "ended", what="the crash is seen")
    core.advance()
    wanted = core.desired()
    assert wanted is not None and wanted["id"] != "a" and wanted["state"] == "promised"
    assert core.status()["restart_in_s"] == pytest.approx(0.5, abs=0.3)
    wait_until(lambda: turn(core) and host.row(wanted["id"])["state"] == "running", what="the next one")
    assert host.row("a")["exit_code"] == 3


def test_unproven_instance_that_crashed_does_not_come_back(host: Host) -> None:
    core = host.start("a", "raise SystemExit(3)", confirmed=False)
    wait_until(lambda: turn(core) and host.row("a")["state"] == "ended", what="the crash is seen")
    core.advance()
    assert core.desired()["id"] == "a" and core.instances == {}  # type: ignore[index]


def test_after_a_reboot_it_is_started_at_once(host: Host) -> None:
    host.start("a", SLEEP)
    host.pids.add(host.row("a")["pid"])
    host.state.update("instances", "a", boot="another", start=1)
    core = host.keeper()
    core.advance()
    core.advance()
    assert host.row("a")["state"] == "ended"
    assert core.desired()["state"] == "running"  # type: ignore[index]


def test_main_process_that_exits_well_and_leaves_children_has_gone_into_the_background(host: Host) -> None:
    core = host.start("a", f"import os\nif os.fork() == 0:\n    {SLEEP}")
    wait_until(
        lambda: turn(core) and [s.pid for s in core.instances["a"].members()] != [host.row("a")["pid"]], what="it forks"
    )
    turn(core)
    children = [stat.pid for stat in core.instances["a"].members()]
    host.pids.update(children)
    assert children and core.drains == {} and host.row("a")["state"] == "running"
    later = host.keeper()
    later.advance()
    assert later.drains == {} and "a" in later.instances


def test_main_process_that_is_killed_leaves_children_that_are_asked_to_stop(host: Host) -> None:
    core = host.start("a", f"import os\nos.fork()\n{SLEEP}")
    wait_until(lambda: len(core.instances["a"].members()) == 2, what="it forks")
    host.pids.update(stat.pid for stat in core.instances["a"].members())
    os.kill(host.row("a")["pid"], signal.SIGKILL)
    wait_until(lambda: turn(core) and host.row("a")["state"] == "ended", what="both are gone")
    assert core.desired()["id"] != "a"  # type: ignore[index]


def test_keeper_is_not_confused_by_a_disk_that_refuses(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    core = host.start("a", SLEEP)
    pid = host.row("a")["pid"]
    run = State._run
    full = True

    def refuse(self: State, sql: str, values: Any = ()) -> Any:
        if full and not sql.startswith("SELECT"):
            raise OSError(28, "No space left on device") from sqlite3.OperationalError("full")
        return run(self, sql, values)

    monkeypatch.setattr(State, "_run", refuse)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(OSError, match="No space"):
        while True:
            turn(core)
    full = False
    wait_until(lambda: turn(core) and core.desired()["id"] != "a", what="the crash is on record")  # type: ignore[index]
    assert host.row("a")["exit_code"] == -9
