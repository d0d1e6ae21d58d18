"""The caller leaves: before the commit nothing has happened, after it the host goes on and anybody may follow."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from app import App, Result, alive, heard, wait_until
from evidence import faults, running, signals, untouched
from victims import agents, opened, parent

SLOW_BUILD = "artifact = 'dist'\ncommand = 'echo $$ > building; sleep 20'"


def result_of(client: subprocess.Popen[str]) -> Result:
    out, err = client.communicate(timeout=60)
    return Result(client.returncode, out, err, 0)


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_before_the_commit_simply_stops(app: App, number: signal.Signals) -> None:
    app.push()
    before = running(app)
    app.release("v2")
    app.configure(build=SLOW_BUILD)
    client = app.start("push", "--json")
    built = app.root / "building"
    build = int(wait_until(lambda: built.exists() and built.read_text(), what="the build runs"))
    client.send_signal(number)
    result = result_of(client)
    assert result.code == 130
    assert "nothing was changed" in result.err
    assert "Traceback" not in result.err
    finished = result.event("push.finished")
    assert (finished["status"], finished["exit_code"]) == ("failed", 130)
    assert faults(result) == []
    assert not alive(build)
    untouched(app, before)
    app.configure()
    app.push()  # the lock is free


def attach_to_the_end(app: App, check: int = 0) -> Result:
    """Attach; the work in flight is done once we hear of it."""
    attaching = app.start("attach", "--json")
    said = heard(attaching, "drain.started")
    app.finish()
    attached = result_of(attaching)
    assert attached.code == check, attached.err
    return Result(attached.code, said + attached.out, attached.err, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_during_the_drain_only_detaches(app: App, number: signal.Signals) -> None:
    app.push()
    task = app.task(100)
    app.release("v2")
    client = app.start("push", "--json")
    wait_until(lambda: signals(app), what="the drain has begun")
    client.send_signal(number)
    result = result_of(client)
    assert result.code == 130
    assert "deployer attach" in result.err
    assert "goes on on the host" in result.err
    attached = attach_to_the_end(app)
    assert json.loads(task.communicate(timeout=60)[0])["result"] == "done"
    assert attached.event("push.finished")["status"] == "done"
    assert faults(attached) == []
    assert running(app)["release"] == app.current() == attached.event("ready")["release"]
    assert signals(app) == ["SIGTERM"]


def test_detached_push_goes_on_by_itself_and_can_be_followed_from_its_beginning(app: App) -> None:
    app.push()
    task = app.task(100)
    app.release("v2")
    app.push("--detach")
    assert task.poll() is None
    attached = attach_to_the_end(app)
    assert attached.names()[0] == "stage.finished"
    assert attached.event("push.finished")["status"] == "done"
    assert attached.event("drain.finished")["verdict"] == "clean"
    task.communicate()
    nothing = app.run("attach", "--json", check=0)
    assert nothing.out == ""
    assert "nothing under way" in app.run("attach", check=0).out


@pytest.mark.full
def test_attach_tells_the_exit_code_of_a_deploy_that_fails(app: App) -> None:
    app.push()
    app.task(100)
    app.release("v2")
    app.configure(args=["--exit-at-once", "3"])
    app.push("--detach")
    attached = attach_to_the_end(app, check=1)
    assert attached.event("push.finished")["status"] == "reverted"


def has_asked(app: App, client: int) -> bool:
    """Whether the engine of *client* looks into the record."""
    engines = [pid for pid in agents(app) if parent(pid) == client]
    return any("state.db" in name for pid in engines for name in opened(pid))


def test_attach_to_a_push_that_still_builds_follows_it_to_its_end(app: App) -> None:
    app.configure(build="artifact = 'dist'\ncommand = 'touch building; until test -e built; do sleep 0.05; done'")
    client = app.start("push", "--json")
    wait_until(lambda: (app.root / "building").exists(), what="the build runs")
    attaching = app.start("attach", "--json")
    wait_until(lambda: has_asked(app, attaching.pid), what="it has asked")
    (app.root / "built").touch()
    assert result_of(attaching).event("push.finished")["status"] == "done"
    assert result_of(client).code == 0


def test_output_that_nobody_reads_stops_no_push(app: App) -> None:
    app.push()
    app.release("v2")
    client = app.start("push")
    assert client.stdout is not None
    client.stdout.close()
    assert client.wait(60) == 0
    assert (app.host / "current" / "version.txt").read_text() == "v2"
    assert client.stderr is not None
    assert "Traceback" not in client.stderr.read()
