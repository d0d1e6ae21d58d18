"""Every other command, and what happens when its caller leaves: events, exit codes, and nothing changed by a look."""

from __future__ import annotations

import json
import os
import signal
import subprocess

from app import App, Result, alive, free_port, wait_until
from evidence import faults, running, signals, tree, untouched


def result_of(client: subprocess.Popen[str]) -> Result:
    out, err = client.communicate(timeout=60)
    return Result(client.returncode, out, err, 0)


# start, stop, restart -----------------------------------------------------------------------------------------------


def test_stop_waits_for_the_task_in_flight_and_start_brings_the_same_release_back(app: App) -> None:
    app.push()
    release = app.current()
    task = app.task(after=1)
    stopped = app.run("stop", "--json", check=0)
    assert json.loads(task.communicate(timeout=60)[0])["result"] == "done"
    assert stopped.event("drain.finished")["verdict"] == "clean"
    assert stopped.event("stop.finished")["status"] == "done"
    assert signals(app) == ["SIGTERM"]
    facts = app.status()
    assert (facts["instance"], facts["desired"], facts["current"]) == (None, None, release)
    again = app.run("stop", "--json", check=0)
    assert again.event("stop.finished")["status"] == "unchanged"
    started = app.run("start", "--json", check=0)
    assert running(app)["release"] == release
    assert started.events[-1]["event"] == "start.finished"
    assert (started.events[-1]["status"], started.events[-1]["exit_code"]) == ("done", 0)
    twice = app.run("start", "--json", check=0)
    assert twice.events[-1]["status"] == "unchanged"
    assert [faults(result) for result in (stopped, again, started, twice)] == [[]] * 4


def test_stop_says_when_and_why_it_had_to_kill(app: App) -> None:
    app.configure(args=["--on-term", "ignore"], drain="ceiling = '1s'")
    app.push()
    pid = running(app)["pid"]
    stopped = app.run("stop", check=5)
    assert not alive(pid)
    assert str(pid) in stopped.out + stopped.err
    assert "kill" in stopped.out + stopped.err


def test_restart_is_a_drain_and_a_start_of_the_same_release(app: App) -> None:
    app.push()
    before = running(app)
    result = app.run("restart", "--json", check=0)
    after = running(app)
    assert (after["release"], after["pid"] != before["pid"]) == (before["release"], True)
    assert signals(app) == ["SIGTERM"]
    assert result.event("drain.finished")["verdict"] == "clean"
    assert result.events[-1]["event"] == "restart.finished"
    assert faults(result) == []


def test_push_after_stop_starts_the_service_even_when_the_content_is_the_same(app: App) -> None:
    app.push()
    app.run("stop", check=0)
    assert app.push().event("push.finished")["status"] == "done"
    assert running(app)["release"] == app.current()


# looking ------------------------------------------------------------------------------------------------------------


def test_looking_changes_nothing(app: App) -> None:
    for command in ("plan", "doctor"):
        app.run(command, "--json", check=0)
    assert not app.host.exists()
    app.push()
    app.release("v2")
    app.configure(build="artifact = 'dist'\ncommand = 'touch built'")
    before, process = tree(app.host), running(app)
    looks = [app.run(*words, "--json", check=0) for words in (["plan"], ["push", "--dry-run"], ["doctor"], ["status"])]
    assert tree(app.host) == before
    assert not (app.root / "built").exists()
    untouched(app, process)
    assert [faults(look) for look in looks] == [[]] * 4
    for look in looks[:2]:
        steps = [step["step"] for step in look.event("plan")["hosts"][0]["steps"]]
        assert steps == ["build", "stage", "switch", "replace", "ready", "confirm", "prune"]


def test_plan_of_what_already_serves_has_no_steps(app: App) -> None:
    app.push()
    assert app.run("plan", "--json").event("plan")["hosts"][0]["steps"] == []


def test_every_command_that_shows_something_prints_one_valid_object(app: App) -> None:
    never = [app.run(command, "--json", check=0) for command in ("status", "releases", "history", "logs")]
    assert never[0].event("status")["hosts"][0]["facts"]["instance"] is None
    assert not app.host.exists()
    app.push()
    app.release("v2")
    app.push()
    task = app.task(100)
    app.finish()
    task.communicate(timeout=60)
    names = ("status", "releases", "history", "logs", "doctor")
    seen = {command: app.run(command, "--json", check=0) for command in names}
    for command, result in seen.items():
        assert faults(result) == []
        assert result.names() == [command]
    facts = seen["status"].event("status")["hosts"][0]["facts"]
    health = running(app)
    assert (facts["instance"]["pid"], facts["instance"]["release"]) == (health["pid"], health["release"])
    assert facts["health"]["health"] == "ok"
    assert facts["instance"]["uptime_s"] >= 0
    releases = seen["releases"].event("releases")["hosts"][0]["releases"]
    assert [release["current"] for release in releases] == [True, False]
    deploys = seen["history"].event("history")["hosts"][0]["deploys"]
    assert [(deploy["kind"], deploy["status"], deploy["exit_code"]) for deploy in deploys] == [("push", "done", 0)] * 2
    assert any(line.startswith(f"serving, pid {health['pid']}") for line in seen["logs"].event("logs")["lines"])
    for command in ("status", "history", "doctor"):
        human = app.run(command, check=0)
        assert human.out
        assert not human.out.startswith("{")


def test_logs_follow_what_the_app_writes(app: App) -> None:
    app.push()
    assert len(app.run("logs", "-n", "1", check=0).out.splitlines()) == 1
    follower = app.start("logs", "-f", "-n", "0")
    assert follower.stdout is not None
    app.run("restart", check=0)
    lines = []
    while not any(line.startswith(f"serving, pid {running(app)['pid']}") for line in lines):
        lines.append(follower.stdout.readline())
        assert lines[-1], "the log ended"
    follower.send_signal(signal.SIGINT)
    follower.wait(60)
    follower.communicate()


def test_status_shows_the_drain_and_the_task_that_it_waits_for(app: App) -> None:
    app.push()
    task = app.task(100, name="summarize")
    app.release("v2")
    client = app.start("push", "--json")
    wait_until(lambda: signals(app), what="the drain has begun")
    facts = app.status()
    assert facts["under_way"]["kind"] == "push"
    assert facts["under_way"]["step"] == "replace"
    assert [one["state"] for one in facts["draining"]] == ["draining"]
    human = app.run("status", check=0).out
    assert client.stdout is not None
    events = map(json.loads, client.stdout)
    progress = next(event for event in events if event["event"] == "drain.progress" and event["tasks"])
    app.finish()
    assert "summarize" in human
    result = result_of(client)
    assert result.code == 0
    assert progress["tasks"][0]["name"] == "summarize"
    assert progress["elapsed_s"] < progress["ceiling_s"] == 660
    assert [process["pid"] for process in progress["processes"]] == [result.event("drain.finished")["pid"]]
    task.communicate()


def test_service_that_has_no_health_url_is_ready_when_it_lives_for_a_while(app: App) -> None:
    app.port = free_port()
    app.configure(health="alive_for = '300ms'")
    result = app.push()
    assert result.event("ready")["took_s"] >= 0.3
    wait_until(lambda: running(app)["release"] == app.current(), what="it serves")
    assert os.path.islink(app.host / "current")
