"""The keeper's mind where the user's commands own the process: whoever of us died, each is called once, and the service runs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import wait_until
from deployer.host.clock import Clock
from deployer.host.paths import HostPaths
from deployer.host.process import Processes
from deployer.host.state import State
from deployer.host.supervise import Core
from deployer.host.supervisors import command
from deployer.model import DrainOrder, Spec


class Host:
    """One app whose commands are plain shell; a line of `calls` for each call."""

    def __init__(self, root: Path) -> None:
        self.paths = HostPaths(root)
        self.paths.prepare_private()
        self.state = State(self.paths.state)
        self.calls, self.pid = root / "calls", root / "app.pid"

    def keeper(self) -> Core:
        core = Core(self.paths, State(self.paths.state), Processes(), Clock(), {}, lambda text: None)
        core.recover()
        return core

    def spec(self, name: str, **commands: str) -> Spec:
        own = {
            "start": f"echo start-{name} >> {self.calls}; sleep 1000 & echo $! > {self.pid}",
            "stop": f"echo stop-$DEPLOYER_INSTANCE >> {self.calls}; kill $DEPLOYER_PID",
            "status": f"kill -0 $(cat {self.pid})",
            **commands,
        }
        owner: dict[str, Any] = {what: ["sh", "-c", script] for what, script in own.items()}
        owner.update(kind="command", pidfile=str(self.pid), pid=None, port=None, timeout=20.0)
        return Spec(
            name, f"r-{name}", "app", ("start",), str(self.paths.root), env={"PATH": os.environ["PATH"]}, owner=owner
        )

    def called(self) -> list[str]:
        return self.calls.read_text().split() if self.calls.exists() else []

    def state_of(self, name: str) -> str:
        row = self.state.row("SELECT state FROM instances WHERE id=?", name)
        return str(row["state"]) if row else ""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    if made.pid.exists():
        try:
            os.kill(int(made.pid.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            pass


def brought_to(core: Core, host: Host, name: str, state: str) -> None:
    def there() -> bool:
        core.reap()
        core.advance()
        return host.state_of(name) == state

    wait_until(there, what=f"{name} is {state}: {host.called()}")


def test_instance_is_started_by_the_command_and_stopped_by_the_other(host: Host) -> None:
    core = host.keeper()
    core.replace("d1", "me", host.spec("one"), DrainOrder(), True)
    brought_to(core, host, "one", "running")
    core.replace("d2", "me", host.spec("two"), DrainOrder())
    brought_to(core, host, "two", "running")
    assert host.called() == ["start-one", "stop-one", "start-two"]
    assert host.state_of("one") == "ended"


def test_start_that_was_recorded_and_never_made_is_made_by_the_next_keeper(host: Host) -> None:
    core, new = host.keeper(), host.spec("one")
    core.replace("d1", "me", new, DrainOrder(), True)
    core.owned.begin(new, lambda: None)  # and here it died
    brought_to(host.keeper(), host, "one", "running")
    assert host.called() == ["start-one"]


def test_one_keeper_after_the_other_dies_and_each_command_is_called_once(host: Host) -> None:
    host.keeper().replace("d1", "me", host.spec("one"), DrainOrder(), True)
    brought_by_many(host, "one")
    host.keeper().replace("d2", "me", host.spec("two"), DrainOrder())
    brought_by_many(host, "two")
    assert host.called() == ["start-one", "stop-one", "start-two"]


def brought_by_many(host: Host, name: str) -> None:
    """Until *name* runs, by keepers of which each lives a little longer than the one before."""
    for lives in range(1, 100):
        core = host.keeper()
        for _ in range(lives):
            core.advance()
            if host.state_of(name) == "running":
                return
            time.sleep(0.02)
    raise AssertionError(f"{name} never runs: {host.called()}")


def test_stop_that_was_mended_in_the_config_is_the_one_that_is_called(host: Host) -> None:
    core = host.keeper()
    core.replace("d1", "me", host.spec("one", stop="exit 9"), DrainOrder(), True)
    brought_to(core, host, "one", "running")
    core.replace("d2", "me", host.spec("two"), DrainOrder())
    brought_to(core, host, "two", "running")
    assert host.called() == ["start-one", "stop-one", "start-two"]


def test_start_that_fails_is_followed_by_one_stop_and_nothing_is_left(host: Host) -> None:
    core = host.keeper()
    half = f"sleep 1000 & echo $! > {host.pid}; exit 3"
    deaf = f"echo stop-$DEPLOYER_INSTANCE >> {host.calls}"
    core.replace("d1", "me", host.spec("one", start=half, stop=deaf), DrainOrder())
    brought_to(core, host, "one", "ended")
    row = host.state.row("SELECT error FROM instances WHERE id='one'")
    assert row is not None and "start failed with exit code 3" in row["error"]
    assert host.called() == ["stop-one"]
    wait_until(lambda: Processes().identity(int(host.pid.read_text())) is None, what="nothing is left")


def test_what_outlasts_the_ceiling_is_killed(host: Host) -> None:
    core = host.keeper()
    core.replace("d1", "me", host.spec("one", stop="sleep 1000"), DrainOrder(), True)
    brought_to(core, host, "one", "running")
    pid = int(host.pid.read_text())
    core.replace("d2", "me", None, DrainOrder(ceiling=0.1))
    brought_to(core, host, "one", "ended")
    row = host.state.row("SELECT verdict FROM drains WHERE instance='one'")
    assert row is not None and '"killed"' in row["verdict"] and str(pid) in row["verdict"]
    assert Processes().identity(pid) is None


@pytest.mark.parametrize("late", [False, True])
def test_crash_that_its_supervisor_mends_is_the_same_instance_with_another_pid(
    host: Host, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SETTLES_WITHIN", 0.1)
    core = host.keeper()
    core.replace("d1", "me", host.spec("one"), DrainOrder(), True)
    brought_to(core, host, "one", "running")
    core.confirm("one")
    os.kill(int(host.pid.read_text()), signal.SIGKILL)
    by = core.owned.by(host.spec("one"))
    if late:  # after everybody has come to believe that it is gone for good
        wait_until(lambda: core.advance() or by.seen(host.spec("one")).ended, what="it is known to be gone")
        for _ in range(5):
            core.advance()
        core = host.keeper()
    again = os.posix_spawnp("sleep", ["sleep", "1000"], os.environ, setsid=True)
    host.pid.write_text(str(again))

    def taken() -> bool:
        core.advance()
        row = host.state.row("SELECT pid FROM instances WHERE id='one'")
        return row is not None and row["pid"] == again

    wait_until(taken, within=10, what="the new process is known")
    assert host.called() == ["start-one"]
    os.kill(again, signal.SIGKILL)
    os.waitpid(again, 0)
