"""A new release that does not serve: the old one runs again, as it was, and nobody ever starts the bad one again."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from app import App, alive, wait_until
from evidence import faults, running, signals

QUICK = 'url = "http://127.0.0.1:{port}/health"\ninterval = "50ms"\nready_within = "1500ms"'


def quick(app: App) -> str:
    """[health] lines that give up soon."""
    return QUICK.replace("{port}", str(app.port))


def reason(app: App, args: list[str]) -> tuple[dict[str, Any], str]:
    """Push a good release, then one with *args*: every promise of a revert holds. What `revert.started` and stderr said."""
    app.configure(args=[], health=quick(app))
    first = app.push().event("push.finished")["hosts"][0]["release"]
    old = running(app)
    app.release("v2")
    app.configure(args=args, health=quick(app))
    result = app.push(check=1)
    assert faults(result) == []
    finished = result.event("push.finished")
    assert (finished["status"], finished["exit_code"]) == ("reverted", 1)
    assert finished["hosts"] == [{"host": "local", "status": "reverted", "release": first}]
    assert result.event("revert.finished")["ok"] is True
    now = running(app)
    assert now["release"] == first == app.current()
    assert now["pid"] != old["pid"] and not alive(old["pid"])
    assert (app.host / "current" / "version.txt").read_text() == "v1"
    assert result.event("host.finished")["gap_ms"] > 0
    return result.event("revert.started"), result.err


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--exit-at-once", "7"], "exited with code 7"),
        (["--health", "never-ready"], "503"),
        (["--wrong-port"], "listens on port"),
    ],
    ids=["exits at once", "never ready", "wrong port"],
)
def test_old_release_runs_again_when_the_new_one_does_not_serve(app: App, args: list[str], why: str) -> None:
    started, said = reason(app, args)
    assert why in started["reason"]
    assert why in said
    assert "serves again" in said


def test_the_reason_and_the_last_lines_of_its_log_are_shown(app: App) -> None:
    app.configure(args=[], health=quick(app))
    app.push()
    app.release("v2")
    app.configure(args=["--exit-at-once", "3"], health=quick(app))
    result = app.run("push", check=1)
    shown = result.out + result.err
    assert "exited with code 3" in shown
    assert "fatal: cannot open the database: no such file" in shown
    assert "Traceback" not in shown


def test_revert_brings_back_the_old_command_and_its_environment(app: App) -> None:
    app.configure(args=["--version-text", "old command"], health=quick(app))
    app.push()
    # The same content: only the settings differ, and they are what a revert must undo.
    app.configure(args=["--version-text", "new command", "--health", "never-ready"], health=quick(app))
    result = app.push(check=1)
    assert result.event("push.finished")["status"] == "reverted"
    assert running(app)["version"] == "old command"


def test_service_is_down_and_exit_is_8_when_neither_release_starts(app: App) -> None:
    once = app.root / "once"
    start = f"test -e {once} && exit 9; touch {once}; exec python3 -S service.py --port {app.port}"
    command = f"command = {json.dumps(['sh', '-c', start])}"
    app.configure(run=command, health=quick(app))
    app.push()
    app.release("v2")
    result = app.push(check=8)
    finished = result.event("push.finished")
    assert (finished["status"], finished["exit_code"]) == ("down", 8)
    assert result.event("revert.finished")["ok"] is False
    assert "DOWN" in result.err
    assert faults(result) == []
    os.unlink(once)
    wait_until(lambda: running(app)["release"] == app.current(), what="the keeper goes on trying the old release")
    assert (app.host / "current" / "version.txt").read_text() == "v1"


def test_broken_first_push_leaves_nothing_running_and_is_not_tried_again(app: App) -> None:
    app.configure(args=["--exit-at-once", "3"], health=quick(app))
    result = app.push(check=8)
    assert result.event("push.finished")["status"] == "down"
    assert "nothing ran before" in result.err
    starts = len(app.lines("STARTS_FILE"))
    assert starts == 1
    facts = app.status()
    assert (facts["instance"], facts["desired"], facts["current"], app.current()) == (None, None, None, None)
    assert app.run("start", "--json").code == 2  # there is no release that ever served
    assert app.run("rollback", "--json").code == 2
    assert len(app.lines("STARTS_FILE")) == starts


def test_failed_release_is_picked_by_no_start_no_rollback_and_no_restart_after_a_crash(app: App) -> None:
    app.configure(args=[], health=quick(app))
    good = app.push().event("host.finished")["release"]
    app.release("v2")
    app.configure(args=["--health", "never-ready"], health=quick(app))
    bad = app.push(check=1).event("revert.started")["release"]
    assert bad != good
    os.kill(running(app)["pid"], signal.SIGKILL)
    wait_until(lambda: running(app)["release"] == good, what="the good release is restarted after the crash")
    assert app.run("rollback", "--json").code == 2
    app.run("stop", check=0)
    app.run("start", check=0)
    assert running(app)["release"] == good
    states = {release["id"]: release["state"] for release in app.status()["releases"]}
    assert states == {good: "good", bad: "failed"}


def test_the_old_process_was_asked_once_and_the_new_one_was_ended(app: App) -> None:
    app.configure(args=[], health=quick(app))
    app.push()
    app.release("v2")
    app.configure(args=["--health", "never-ready"], health=quick(app))
    result = app.push(check=1)
    assert signals(app) == ["SIGTERM", "SIGTERM"]  # one for the old, one for the new: never two for one
    assert len({line[2] for line in app.lines("SIGNALS_FILE")}) == 2
    assert [event["verdict"] for event in result.events if event["event"] == "drain.finished"] == ["clean", "clean"]


def test_failed_restart_of_a_release_tries_the_same_release_again(app: App) -> None:
    once = app.root / "fail"
    start = f"test -e {once} && rm {once} && exit 9; exec python3 -S service.py --port {app.port}"
    app.configure(run=f"command = {json.dumps(['sh', '-c', start])}", health=quick(app))
    release = app.push().event("host.finished")["release"]
    once.touch()
    result = app.run("restart", "--json", check=1)
    assert result.event("restart.finished")["status"] == "reverted"
    assert running(app)["release"] == release == app.current()
