"""A service that a real `systemd --user` runs: the main job, whoever dies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app import wait_until
from systemd_rig import InsideApp, app_in, user_manager
from victims import signals_to_mains

SUPERVISOR = 'supervisor = "systemd-user"\n'


@pytest.fixture
def app() -> Iterator[InsideApp]:
    with user_manager() as manager, app_in(manager) as made:
        made.configure(more=SUPERVISOR)
        yield made


def unit(app: InsideApp, release: str | None = None) -> str:
    return f"t-app@{release or app.current()}.service"


def active(app: InsideApp) -> list[str]:
    """The units of its releases that run."""
    listed = app.manager.systemctl("list-units", "--plain", "--no-legend", "--state=active", "t-app@*.service").out
    return [line.split()[0] for line in listed.splitlines()]


def test_push_runs_the_release_as_a_unit(app: InsideApp) -> None:
    result = app.push()
    assert result.event("push.finished")["status"] == "done"
    assert app.get()["release"] == app.current()
    assert active(app) == [unit(app)]
    shown = app.manager.show(unit(app), "KillMode", "TimeoutStopUSec", "NonBlocking", "Restart", "UnitFileState")
    assert shown == {
        "KillMode": "mixed", "TimeoutStopUSec": "11min", "NonBlocking": "yes", "Restart": "on-failure", "UnitFileState": "enabled",
    }  # fmt: skip
    assert app.push().event("push.finished")["status"] == "unchanged"


def test_work_in_flight_is_finished_before_the_new_release_starts(app: InsideApp) -> None:
    app.push()
    old, client = app.get(), app.task(3)
    app.release("v2")
    result = app.push()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    drained = result.event("drain.finished")
    assert (drained["verdict"], drained["exit_code"]) == ("clean", 0)
    assert drained["waited_s"] > 0.2
    assert app.get()["release"] == app.current() != old["release"]
    assert active(app) == [unit(app)]
    assert signals_to_mains(app) == {str(old["pid"]): 1}
    # Only the release that serves starts at boot.
    assert app.manager.show(unit(app, old["release"]), "UnitFileState")["UnitFileState"] == "disabled"


def test_release_that_is_not_ready_gives_way_to_the_old_one(app: InsideApp) -> None:
    app.push()
    old = app.get()
    app.configure(
        args=["--health", "never-ready"], health=f'url = "{app.url}/health"\nready_within = "2s"', more=SUPERVISOR
    )
    result = app.push(check=1)
    assert result.event("push.finished")["status"] == "reverted"
    assert (app.get()["release"], app.current()) == (old["release"], old["release"])
    assert active(app) == [unit(app)]
    assert app.manager.show(unit(app), "UnitFileState")["UnitFileState"] == "enabled"
    app.configure(args=[], more=SUPERVISOR)
    app.release("v3")
    assert app.push().event("push.finished")["status"] == "done"


def test_release_that_exits_at_once_gives_way_and_is_not_started_again(app: InsideApp) -> None:
    app.push()
    old = app.get()
    app.configure(run='command = ["sh", "-c", "exit 3"]', more=SUPERVISOR)
    app.release("v2")
    result = app.push(check=1)
    assert result.event("push.finished")["status"] == "reverted"
    assert "code 3" in result.err
    assert app.get()["release"] == old["release"]
    assert len(app.lines("STARTS_FILE")) <= 3


def test_process_that_outlasts_the_ceiling_is_killed_and_named(app: InsideApp) -> None:
    app.configure(drain='ceiling = "1s"', more=SUPERVISOR)
    app.push()
    old, client = app.get(), app.task(100)
    app.release("v2")
    result = app.push(check=5)
    drained = result.event("drain.finished")
    assert drained["verdict"] == "killed" and 0.9 < drained["waited_s"] < 5
    assert drained["lost"] != []
    assert app.get()["release"] == app.current() != old["release"]
    client.communicate(timeout=60)


def test_crash_is_mended_by_systemd_and_told_by_status(app: InsideApp) -> None:
    app.push()
    old = app.get()
    app.manager.run(["kill", "-KILL", str(old["pid"])])
    wait_until(lambda: app.get()["pid"] != old["pid"], what="systemd starts it again")
    facts = app.status()
    assert facts["instance"]["pid"] == app.get()["pid"]
    app.release("v2")
    assert app.push().event("drain.finished")["pid"] == facts["instance"]["pid"]


def test_stop_start_restart_and_rollback(app: InsideApp) -> None:
    app.push()
    first = app.get()
    app.run("restart")
    second = app.get()
    assert (second["release"], second["pid"] != first["pid"]) == (first["release"], True)
    app.release("v2")
    app.push()
    app.run("rollback")
    assert app.get()["release"] == first["release"]
    app.run("stop")
    assert active(app) == [] and app.status()["instance"] is None
    assert app.manager.show(unit(app), "UnitFileState")["UnitFileState"] == "disabled"
    app.run("start")
    assert app.get()["release"] == first["release"]
    assert app.manager.show(unit(app), "UnitFileState")["UnitFileState"] == "enabled"
    counts = signals_to_mains(app)
    assert set(counts.values()) == {1} and len(counts) == 4


def test_reboot_brings_the_current_release_back_without_a_client(app: InsideApp) -> None:
    app.push()
    app.release("v2")
    app.push()
    app.manager.power_cut()
    app.manager.boot()
    wait_until(lambda: app.get()["release"] == app.current(), what="it serves again")
    assert app.status()["instance"]["release"] == app.current()


@pytest.mark.parametrize("way", ["--now", "--extend"])
def test_drain_is_ended_and_lengthened_by_a_person(app: InsideApp, way: str) -> None:
    app.configure(drain='ceiling = "4s"', more=SUPERVISOR)
    app.push()
    client = app.task(6 if way == "--extend" else 100)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="it was asked to stop")
    app.run("drain", way, *(["60s"] if way == "--extend" else []))
    _, err = pushing.communicate(timeout=60)
    assert pushing.returncode == (0 if way == "--extend" else 5), err
    assert ('"done"' in client.communicate(timeout=60)[0]) is (way == "--extend")


def test_child_that_outlives_its_wrapper_is_waited_for(app: InsideApp) -> None:
    app.push()
    app.configure(run=wrapped(app), more=SUPERVISOR)
    app.push()
    client = app.task(2)
    app.configure(more=SUPERVISOR)
    app.release("v3")
    result = app.push()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert result.event("drain.finished")["verdict"] == "clean"
    assert app.get()["release"] == app.current()


def wrapped(app: InsideApp) -> str:
    import json
    import shlex
    import sys

    words = shlex.join([sys.executable, "-S", "service.py", "--port", str(app.port)])
    return f"command = {json.dumps(f'{words}; true')}\n"


def test_logs_are_the_journals_and_a_failed_start_shows_its_own(app: InsideApp) -> None:
    app.configure(args=["--at-start", "echo here I am; sleep 0.3"], more=SUPERVISOR)
    app.push()
    wait_until(lambda: "here I am" in app.run("logs").out, what="the journal has it")
    app.configure(args=["--at-start", "echo broken because; sleep 0.3; kill -9 $PPID; sleep 60"], more=SUPERVISOR)
    app.release("v2")
    result = app.push(check=1)
    assert "broken because" in "".join(result.event("revert.started")["log_tail"])
    app.task(0.1).communicate(timeout=60)
    assert app.get()["release"] == app.current()
