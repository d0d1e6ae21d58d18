"""What people and machines do to a service under systemd while it is deployed: no work is lost, and the service stays up."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_systemd import SUPERVISOR, active, foreign, unit
from test_systemd_overlap import Inside

from app import wait_until
from overlapping import overlapping
from systemd_rig import InsideApp, app_in, user_manager
from victims import signals_to_mains


def wrapped(app: InsideApp) -> str:
    """Its command in a shell that waits for it, and hears the signal in its place."""
    words = shlex.join([sys.executable, "-S", "service.py", "--port", str(app.port)])
    return f"command = {json.dumps(f'{words}; true')}\n"


@pytest.fixture
def app() -> Iterator[InsideApp]:
    with user_manager() as manager, app_in(manager) as made:
        made.configure(more=SUPERVISOR)
        yield made


@pytest.fixture
def beside() -> Iterator[Inside]:
    with user_manager() as manager:

        def kind(root: Path, port: int) -> Inside:
            made = Inside(root, port)
            made.manager = manager
            return made

        with overlapping(manager.root / "app", kind=kind) as made:
            assert isinstance(made, Inside)
            made.write(target=SUPERVISOR)
            yield made


def test_abort_in_the_drain_shortens_nothing_and_starts_no_aborted_release(app: InsideApp) -> None:
    app.configure(drain='revert_ceiling = "1s"', more=SUPERVISOR)
    app.push()
    old, client = app.get(), app.task(after=4)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="it was asked to stop")
    aborted = app.run("abort", check=0)
    assert '"done"' in client.communicate(timeout=60)[0], f"the task was lost: {aborted.err}"
    pushing.communicate(timeout=60)
    assert app.get()["release"] == old["release"] == app.current()
    assert active(app) == [unit(app)]
    assert len(app.lines("STARTS_FILE")) == 2, app.lines("STARTS_FILE")
    assert signals_to_mains(app) == {str(old["pid"]): 1}


@pytest.mark.full
def test_unit_that_serves_again_has_its_own_ceiling(app: InsideApp) -> None:
    app.configure(drain='ceiling = "4m"', more=SUPERVISOR)
    app.push()
    first = app.current()
    app.configure(drain='ceiling = "2m"', more=SUPERVISOR)
    app.release("v2")
    app.push()
    assert app.manager.show(unit(app, first), "TimeoutStopUSec") == {"TimeoutStopUSec": "2min"}
    app.run("rollback", check=0)
    assert app.current() == first
    assert app.manager.show(unit(app), "TimeoutStopUSec") == {"TimeoutStopUSec": "4min"}


@pytest.mark.parametrize("job", ["push", pytest.param("restart", marks=pytest.mark.full)])
def test_child_that_outlasts_its_wrapper_and_the_ceiling_is_killed_and_told(app: InsideApp, job: str) -> None:
    app.configure(run=wrapped(app), drain='ceiling = "2s"', more=SUPERVISOR)
    app.push()
    client = app.task(100)
    app.release("v2")
    result = app.run(job, "--json")
    client.communicate(timeout=60)
    assert (result.event("drain.finished")["verdict"], result.code) == ("killed", 5), result.err
    assert app.get()["release"] == app.current()


def test_private_health_outlives_a_restart_of_the_same_release(beside: Inside) -> None:
    beside.write(
        env={"DRAINS": "1"}, health="private = true\nready_within = '5s'", strategy="restart", target=SUPERVISOR
    )
    beside.push()
    pid = beside.get()["pid"]
    beside.run("restart", check=0)
    assert beside.get()["pid"] != pid


@pytest.mark.full
def test_socket_of_somebody_else_is_left_alone(beside: Inside) -> None:
    theirs = beside.manager.units / "t-app.socket"
    theirs.write_text("[Socket]\nListenStream=127.0.0.1:1\n")
    result = beside.push(check=None)
    assert theirs.read_text() == "[Socket]\nListenStream=127.0.0.1:1\n"
    assert result.code and "t-app.socket" in result.err


@pytest.mark.full
def test_release_that_its_successor_conflicts_with_can_be_started_beside_it(beside: Inside) -> None:
    beside.push()
    first = beside.current()
    beside.write(strategy="restart", target=SUPERVISOR)
    beside.release("v2")
    beside.push()
    result = beside.run("rollback", "--json", check=0)
    assert beside.current() == first
    assert result.event("host.finished")["gap_ms"] == 0


def test_variable_that_systemd_would_print_into_its_journal_is_refused(app: InsideApp) -> None:
    app.push()
    old = app.get()
    app.configure(run='env = { "MY-KEY" = "s3cret" }', more=SUPERVISOR)
    result = app.push(check=None)
    assert result.code and "MY-KEY" in result.err and "s3cret" not in result.err
    assert app.get() == {**app.get(), "pid": old["pid"]}
    everything = app.manager.run(["journalctl", "--output=cat", "--no-pager"], check=False).out
    assert "s3cret" not in everything


@pytest.mark.full
def test_unit_that_a_timer_starts_is_not_adopted(app: InsideApp) -> None:
    foreign(app, "TimeoutStopSec=12min")
    (app.manager.units / "agent.timer").write_text("[Timer]\nOnActiveSec=1h\n")
    app.manager.systemctl("daemon-reload")
    app.manager.systemctl("start", "agent.timer")
    app.configure(adopt='unit = "agent.service"', more=SUPERVISOR)
    result = app.push(check=2)
    assert "agent.timer" in result.err
    assert app.manager.show("agent.service", "ActiveState")["ActiveState"] == "active"
