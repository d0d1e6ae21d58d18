"""The caller leaves: before the commit nothing has happened, after it the host goes on and anybody may follow."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from app import App, Result, alive, wait_until
from evidence import faults, running, signals, untouched

SLOW_BUILD = "artifact = 'dist'\ncommand = 'echo $$ > building; sleep 20'"


def result_of(client: subprocess.Popen[str]) -> Result:
    out, err = client.communicate(timeout=60)
    return Result(client.returncode, out, err, 0)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_during_the_drain_only_detaches(app: App, number: signal.Signals) -> None:
    app.push()
    task = app.task(3)
    app.release("v2")
    client = app.start("push", "--json")
    wait_until(lambda: signals(app), what="the drain has begun")
    client.send_signal(number)
    result = result_of(client)
    assert result.code == 130
    assert "deployer attach" in result.err
    assert "goes on on the host" in result.err
    attached = app.run("attach", "--json", check=0)
    assert json.loads(task.communicate(timeout=60)[0])["result"] == "done"
    assert attached.event("push.finished")["status"] == "done"
    assert faults(attached) == []
    assert running(app)["release"] == app.current() == attached.event("ready")["release"]
    assert signals(app) == ["SIGTERM"]


def test_detached_push_goes_on_by_itself_and_can_be_followed_from_its_beginning(app: App) -> None:
    app.push()
    task = app.task(4)
    app.release("v2")
    detached = app.push("--detach")
    assert detached.seconds < 3
    attached = app.run("attach", "--json", check=0)
    assert attached.names()[0] == "stage.finished"
    assert attached.event("push.finished")["status"] == "done"
    assert attached.event("drain.finished")["verdict"] == "clean"
    task.communicate()
    nothing = app.run("attach", "--json", check=0)
    assert nothing.out == ""
    assert "nothing under way" in app.run("attach", check=0).out


def test_attach_tells_the_exit_code_of_a_deploy_that_fails(app: App) -> None:
    app.push()
    app.task(3)
    app.release("v2")
    app.configure(args=["--exit-at-once", "3"])
    app.push("--detach")
    attached = app.run("attach", "--json", check=1)
    assert attached.event("push.finished")["status"] == "reverted"


def test_attach_to_a_push_that_still_builds_follows_it_to_its_end(app: App) -> None:
    app.configure(build="artifact = 'dist'\ncommand = 'touch building; sleep 2'")
    client = app.start("push", "--json")
    wait_until(lambda: (app.root / "building").exists(), what="the build runs")
    attached = app.run("attach", "--json", check=0)
    assert attached.event("push.finished")["status"] == "done"
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
