"""Before the signal: a rehearsal beside the old release, a request to be quiet, a look for an idle moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from app import App, Result, heard, wait_until
from evidence import faults, running, signals, untouched


def result_of(client: subprocess.Popen[str]) -> Result:
    out, err = client.communicate(timeout=60)
    return Result(client.returncode, out, err, 0)


def test_quiet_is_asked_for_once_also_when_its_runner_dies_of_it(app: App) -> None:
    asked = app.root / "asked.txt"
    app.push()
    app.configure(drain=f'quiet = "echo asked >> {asked}; kill -9 $PPID"')
    app.release("v2")
    result = app.push()
    assert asked.read_text().split() == ["asked"]
    assert "resumed" in result.names()
    assert result.event("push.finished")["status"] == "done"


def test_quiet_signal_stops_new_work_before_the_signal_that_stops_the_app(app: App) -> None:
    app.configure(args=["--quiet-signal", "SIGTSTP"], drain="quiet = 'SIGTSTP'")
    app.push()
    app.release("v2")
    app.push()
    assert signals(app) == ["SIGTSTP", "SIGTERM"]


def test_quiet_command_and_url_are_asked_before_the_signal(app: App) -> None:
    told = app.root / "told.txt"
    app.push()
    before = running(app)
    app.release("v2")
    app.configure(drain=f"quiet = 'echo $DEPLOYER_PID $PWD $(cat {app.root}/signals_file.txt) > {told}'")
    app.push()
    pid, directory, *seen = told.read_text().split()
    assert (int(pid), os.path.basename(directory), seen) == (before["pid"], before["release"], [])
    app.release("v3")
    app.configure(drain=f"quiet = '{app.url}/spawn?kind=child'")  # a page that is only there for a POST
    assert "404" in app.push().event("warning")["text"]


@pytest.mark.full
def test_quiet_that_fails_is_a_warning_and_the_push_goes_on(app: App) -> None:
    app.push()
    app.release("v2")
    app.configure(drain="quiet = 'echo cannot; exit 3'")
    result = app.push()
    assert "cannot" in result.event("warning")["text"]
    assert faults(result) == []


@pytest.mark.full
def test_runner_killed_after_the_app_was_asked_to_be_quiet_goes_on_and_does_not_leave_it_so(app: App) -> None:
    app.configure(args=["--quiet-signal", "SIGTSTP"], drain="quiet = 'SIGTSTP'\nwait_idle = '10s'")
    app.push()
    task = app.task(100)
    app.release("v2")
    client = app.start("push", "--json")
    wait_until(lambda: signals(app) == ["SIGTSTP"], what="the app was asked to be quiet")
    os.kill(json.loads((app.host / ".deployer" / "lock").read_text())["pid"], signal.SIGKILL)
    app.finish()
    result = result_of(client)
    assert (result.code, result.event("push.finished")["status"]) == (0, "done"), result.err
    assert signals(app).count("SIGTERM") == 1
    assert running(app)["release"] == app.current()
    task.communicate()


def test_idle_moment_is_waited_for_before_the_signal(app: App) -> None:
    app.push()
    app.release("v2")
    app.configure(drain="wait_idle = '60s'")
    task = app.task(100)
    client = app.start("push", "--json")
    heard(client, "drain.waiting")
    app.finish()
    result = result_of(client)
    assert result.code == 0, result.err
    done = app.lines("WORK_FILE")[0]
    assert float(app.lines("SIGNALS_FILE")[0][3]) > float(done[3])
    assert result.event("drain.finished")["waited_s"] < 5
    assert faults(result) == []
    task.communicate()


def test_no_idle_moment_within_the_limit_is_a_warning_and_the_drain_begins(app: App) -> None:
    app.push()
    app.release("v2")
    app.configure(drain="wait_idle = '500ms'")
    task = app.task(after=0.5)
    result = app.push()
    assert "no idle moment" in result.event("warning")["text"]
    assert float(app.lines("SIGNALS_FILE")[0][3]) < float(app.lines("WORK_FILE")[0][3])
    task.communicate()


def rehearsed(app: App, kind: str, args: list[str]) -> None:
    """Configure a release that is rehearsed, listening on `socket` or `ports`."""
    command = json.dumps([sys.executable, "-S", "service.py", *args])
    where = f'socket = "127.0.0.1:{app.port}"' if kind == "socket" else f"ports = [{app.port}]"
    run = f"command = {command}\nrehearse = true\n{where}"
    health = 'url = "http://127.0.0.1:{port}/health"\ninterval = "50ms"\nready_within = "2s"'
    app.configure(run=run, health=health)


@pytest.mark.parametrize("kind", ["socket", pytest.param("ports", marks=pytest.mark.full)])
def test_broken_release_fails_in_the_rehearsal_and_the_old_process_never_hears_of_it(app: App, kind: str) -> None:
    rehearsed(app, kind, [])
    first = app.push()
    assert "rehearse.finished" in first.names()
    before = running(app)
    assert before["release"] == app.current()
    starts = len(app.lines("STARTS_FILE"))
    assert starts == 2
    app.release("v2")
    rehearsed(app, kind, ["--exit-at-once", "3"])
    result = app.push(check=7)
    assert "the rehearsal failed" in result.err
    assert "fatal: cannot open the database" in result.err
    untouched(app, before, but=["SIGTERM"])  # the one that ended the first rehearsal
    rehearsed(app, kind, [])
    good = app.push()
    assert faults(good) == []
    assert running(app)["release"] == app.current() != before["release"]
    assert len([pid for pid in app.processes() if str(pid) in {line[2] for line in app.lines("STARTS_FILE")}]) == 1


@pytest.mark.full
def test_rehearsal_of_a_health_url_with_a_written_port_asks_the_private_one(app: App) -> None:
    rehearsed(app, "ports", [])
    config = app.root / "deploy.toml"
    config.write_text(config.read_text().replace("{port}", str(app.port)))
    app.push()
    app.release("v2")
    app.push()
    assert running(app)["release"] == app.current()
