"""Wrappers and escapees: whoever works is drained, none is cut, none is left alive. (Issue case 4.)"""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from app import App, alive, wait_until

SHELL_FORWARDS = """#!/bin/sh
trap 'kill -TERM $pid' TERM
{service} &
pid=$!
wait $pid
wait $pid
"""


def service(app: App) -> str:
    return f"{sys.executable} -S service.py --port {app.port}"


def starts(app: App) -> list[int]:
    """The pids of every process of service.py that ever started."""
    return [int(line[2]) for line in app.lines("STARTS_FILE")]


def wrapped(app: App, wrapper: str) -> str:
    """The [run] command for *wrapper*; writes the files that it needs."""
    if wrapper == "npm":
        (app.dist / "package.json").write_text(json.dumps({"name": "x", "scripts": {"start": service(app)}}))
        return json.dumps(["npm", "start"])
    if wrapper == "trap":
        (app.dist / "run.sh").write_text(SHELL_FORWARDS.format(service=service(app)))
        return json.dumps(["sh", "run.sh"])
    commands = {
        "string": service(app),
        "sh -c …; true": ["sh", "-c", f"{service(app)}; true"],
        "sh in sh": ["sh", "-c", f"sh -c '{service(app)}; true'; true"],
        "setsid": ["setsid", "--fork", "--wait", *service(app).split()],
        "daemon": f"setsid {service(app)} & exit 0",
    }
    return json.dumps(commands[wrapper])


@pytest.mark.parametrize("wrapper", ["string", "sh -c …; true", "sh in sh", "trap", "setsid", "daemon", "npm"])
def test_work_below_a_wrapper_is_finished_and_its_worker_asked_once(app: App, wrapper: str) -> None:
    if wrapper == "npm" and not shutil.which("npm"):
        pytest.skip("no npm here")
    app.configure(run=f"command = {wrapped(app, wrapper)}")
    app.push()
    old = app.get()["pid"]
    client = app.task(after=0.6)
    app.release("v2")
    result = app.push()
    answer, _ = client.communicate(timeout=60)
    assert json.loads(answer)["result"] == "done"
    assert [line[:3] for line in app.lines("SIGNALS_FILE")] == [["SIGTERM", "main", str(old)]]
    assert result.event("drain.finished")["waited_s"] > 0
    assert result.event("drain.finished")["verdict"] in ("clean", "exited")  # npm makes a code of its own of it
    assert not alive(old)
    health = app.get()
    assert health["pid"] != old and health["release"] == app.current()


def test_everyone_who_outlives_the_main_process_is_asked_once_and_finishes(app: App) -> None:
    app.configure(args=["--spawn", "child:0.7:after,setsid:0.7:after,daemon:0.7:after,grandchild:0.7:after"])
    app.push()
    wait_until(lambda: len(starts(app)) == 6, what="every child runs")
    old = starts(app)
    app.release("v2")
    app.configure(args=[])
    drained = app.push().event("drain.finished")
    assert drained["verdict"] == "clean" and drained["killed"] == []
    assert sorted(line[1] for line in app.lines("WORK_FILE")) == ["child", "daemon", "grandchild", "leaf", "setsid"]
    asked = Counter((line[0], int(line[2])) for line in app.lines("SIGNALS_FILE"))
    assert asked == {("SIGTERM", pid): 1 for pid in old}
    assert not any(map(alive, old))


def test_new_release_starts_only_when_the_last_escapee_has_finished(app: App) -> None:
    app.configure(args=["--spawn", "daemon:1:after"])
    app.push()
    app.release("v2")
    app.configure(args=[])
    app.push()
    finished = float(next(line for line in app.lines("WORK_FILE") if line[1] == "daemon")[3])
    assert float(app.lines("STARTS_FILE")[-1][3]) >= finished


@pytest.mark.parametrize("kind", ["child", pytest.param("setsid", marks=pytest.mark.full), "daemon"])
def test_process_started_during_the_drain_is_drained_too(app: App, kind: str) -> None:
    app.push()
    client = app.task(100)
    app.release("v2")
    push = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="the drain has begun")
    asked = urllib.request.Request(f"{app.url}/spawn?kind={kind}&seconds=1:after", method="POST")
    urllib.request.urlopen(asked, timeout=30).close()
    app.finish()
    out, err = push.communicate(timeout=60)
    client.communicate(timeout=60)
    assert push.returncode == 0, out + err
    assert sorted(line[1] for line in app.lines("WORK_FILE")) == sorted(["main", kind])
    assert set(Counter(line[2] for line in app.lines("SIGNALS_FILE")).values()) == {1}


def test_daemon_without_environment_and_session_is_not_lost(app: App) -> None:
    names = ("WORK_FILE", "SIGNALS_FILE", "STARTS_FILE")
    kept = " ".join(f"{name}=${name}" for name in names)
    escape = f"env -i {kept} setsid sh -c '{sys.executable} -S service.py --work escaped:1:after &'"
    app.configure(run=f"command = {json.dumps(f'({escape} &); exec {service(app)}')}")
    app.push()
    pid = int(wait_until(lambda: [line for line in app.lines("STARTS_FILE") if line[1] == "escaped"])[0][2])
    assert b"DEPLOYER" not in Path(f"/proc/{pid}/environ").read_bytes()
    app.configure(args=[])
    drained = app.push().event("drain.finished")
    assert drained["verdict"] == "clean" and drained["waited_s"] > 0.5
    assert [line[1] for line in app.lines("WORK_FILE")] == ["escaped"]
    assert [line[1] for line in app.lines("SIGNALS_FILE") if line[2] == str(pid)] == ["escaped"]
    started = float(app.lines("STARTS_FILE")[-1][3])
    assert started >= float(app.lines("WORK_FILE")[0][3])  # the new release waited for it
    assert not alive(pid)


def test_child_that_exits_while_its_parent_serves_costs_the_keeper_nothing(app: App) -> None:
    app.configure(args=["--spawn", "child:0.5"])
    app.push()
    keeper = app.status()["keeper"]["pid"]
    wait_until(lambda: app.lines("WORK_FILE"), what="the child has finished")
    before = cpu(keeper)
    time.sleep(1)  # the measure itself: a second in which nothing happens
    assert cpu(keeper) - before < 0.3


def cpu(pid: int) -> float:
    """The seconds of CPU that *pid* has used."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / 100
