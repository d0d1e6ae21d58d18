"""How a drain ends: clean, exited or killed, proven by what the processes themselves noted. (Issue cases 1 and 3.)"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from app import App, alive, read, wait_until

NO_URL = 'alive_for = "100ms"'


def moment(event: dict[str, Any]) -> float:
    """The time of an event, in seconds since the epoch."""
    return datetime.fromisoformat(event["time"]).timestamp()


def signals(app: App) -> Counter[tuple[str, str]]:
    """How often each process was sent each signal: {("SIGTERM", pid): 1}."""
    return Counter((line[0], line[2]) for line in app.lines("SIGNALS_FILE"))


def command_line(pid: int) -> str:
    """How *pid* was called; empty when it has gone."""
    return read(f"/proc/{pid}/cmdline").decode("utf-8", "replace")


def script(app: App, text: str, name: str = "worker.py") -> str:
    """A [run] that starts *text* as a Python program without HTTP."""
    (app.dist / name).write_text(text)
    return f"command = {json.dumps([sys.executable, '-S', name])}"


def replaced(app: App, check: int = 0, *args: str) -> dict[str, Any]:
    """Push another release and return its `drain.finished`."""
    app.release("v2")
    return app.push(*args, check=check).event("drain.finished")


def test_exit_code_of_its_own_is_told_and_is_no_failure_of_the_push(app: App) -> None:
    app.configure(args=["--exit-code", "3"])
    app.push()
    drained = replaced(app)
    assert (drained["verdict"], drained["exit_code"], drained["lost"]) == ("exited", 3, [])


def test_death_by_the_signal_that_we_sent_is_clean(app: App) -> None:
    app.configure(args=["--on-term", "default"])
    app.push()
    drained = replaced(app)
    assert (drained["verdict"], drained["exit_code"]) == ("clean", -signal.SIGTERM)


def test_the_whole_tree_is_killed_at_the_ceiling_and_not_before(app: App) -> None:
    args = ["--on-term", "ignore", "--task", "600", "--spawn", "child:0:ignore,setsid:0:ignore,daemon:0:ignore"]
    app.configure(args=args, drain='ceiling = "1500ms"')
    app.push()
    wait_until(lambda: len(app.lines("STARTS_FILE")) == 4, what="every child runs")
    old = [int(line[2]) for line in app.lines("STARTS_FILE")]
    app.configure(args=[], drain='ceiling = "1500ms"')
    result = app.push(check=5)
    started, drained = result.event("drain.started"), result.event("drain.finished")
    assert drained["verdict"] == "killed"
    assert sorted(process["pid"] for process in drained["killed"]) == sorted(old)
    assert not any(map(alive, old))
    assert 1.5 <= drained["waited_s"] < 15
    assert moment(drained) - moment(started) >= 1.45
    assert [task["name"] for task in drained["lost"]] == ["callClaude"]
    assert signals(app) == {("SIGTERM", str(result.event("drain.started")["pid"])): 1}
    assert result.event("push.finished")["status"] == "done"
    assert app.get()["release"] == app.current() == result.event("ready")["release"]


def test_human_output_names_the_lost_task_and_who_was_killed(app: App) -> None:
    app.configure(args=["--on-term", "ignore", "--task", "600"])
    app.push()
    pid = app.get()["pid"]
    app.configure(args=[])
    result = app.run("push", "--ceiling", "1s", check=5)
    assert "KILLED" in result.out and "callClaude" in result.out and str(pid) in result.out
    assert "lost" in result.out


def test_ceiling_on_the_command_line_counts_and_warns(app: App) -> None:
    app.configure(args=["--on-term", "ignore"], drain='ceiling = "11m"\nlongest_task = "8m"')
    app.push()
    app.release("v2")
    result = app.push("--ceiling", "1s", check=5)
    assert result.event("drain.started")["ceiling_s"] == 1
    assert 1 <= result.event("drain.finished")["waited_s"] < 15
    warnings = [event["text"] for event in result.events if event["event"] == "warning"]
    assert any("ceiling" in text and "longest_task" in text for text in warnings) or "longest_task" in result.err


def test_another_signal_is_sent_where_the_config_says_so(app: App) -> None:
    app.configure(args=["--stop-signal", "SIGINT"], drain='signal = "SIGINT"')
    app.push()
    assert replaced(app)["verdict"] == "clean"
    assert [line[:2] for line in app.lines("SIGNALS_FILE")] == [["SIGINT", "main"]]


def test_main_process_that_stays_decides_for_its_children(app: App) -> None:
    app.configure(args=["--spawn", "child:1.5,setsid:1.5,grandchild:1.5", "--wait-children"])
    app.push()
    assert replaced(app)["verdict"] == "clean"
    assert [line[1] for line in app.lines("SIGNALS_FILE")] == ["main"]
    assert sorted(line[1] for line in app.lines("WORK_FILE")) == ["child", "grandchild", "leaf", "setsid"]


def test_signal_to_tree_reaches_every_process_once_while_main_lives(app: App) -> None:
    app.configure(
        args=["--spawn", "child:0.7:after,setsid:0.7:after,grandchild:0.7:after", "--wait-children"],
        drain='signal_to = "tree"',
    )
    app.push()
    wait_until(lambda: len(app.lines("STARTS_FILE")) == 5, what="every child runs")
    assert replaced(app)["verdict"] == "clean"
    assert sorted(line[1] for line in app.lines("SIGNALS_FILE")) == ["child", "grandchild", "leaf", "main", "setsid"]
    assert sorted(line[1] for line in app.lines("WORK_FILE")) == ["child", "grandchild", "leaf", "setsid"]


def test_stopped_process_is_woken_so_that_it_can_hear_the_signal(app: App) -> None:
    app.configure(health=f'url = "{app.url}/health"\ninterval = "50ms"\ntimeout = "200ms"')
    app.push()
    pid = app.get()["pid"]
    os.kill(pid, signal.SIGSTOP)
    app.release("v2")
    result = app.push(timeout=30)
    assert result.event("drain.finished")["verdict"] == "clean"
    assert signals(app) == {("SIGTERM", str(pid)): 1}


EXTENDING = """
import os, signal, socket, sys, time
def stop(*_):
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = os.environ["NOTIFY_SOCKET"]
    address = chr(0) + address[1:] if address.startswith("@") else address
    told.sendto(b"STOPPING=1\\nSTATUS=finishing\\nEXTEND_TIMEOUT_USEC=%s" % os.environ["ASKED"].encode(), address)
    time.sleep(1.5)
    open(os.environ["WORK_FILE"], "a").write("done main\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
while True:
    time.sleep(60)
"""


@pytest.mark.parametrize(("asked", "verdict"), [("10000000", "clean"), ("²", "killed")])
def test_extend_timeout_lengthens_the_drain_and_nothing_else_does(app: App, asked: str, verdict: str) -> None:
    work = json.dumps(str(app.root / "work_file.txt"))
    run = script(app, EXTENDING) + f"\nenv = {{ ASKED = {json.dumps(asked)}, WORK_FILE = {work} }}"
    app.configure(run=run, health=NO_URL, drain='ceiling = "1s"')
    app.push()
    drained = replaced(app, 0 if verdict == "clean" else 5)
    assert drained["verdict"] == verdict
    assert bool(app.lines("WORK_FILE")) == (verdict == "clean")
    assert 1 <= drained["waited_s"] < 9


def test_progress_tells_time_work_and_processes(app: App) -> None:
    app.configure(args=["--spawn", "child:0.2:after"])
    app.push()
    wait_until(lambda: len(app.lines("STARTS_FILE")) == 2, what="its child runs")
    client = app.task(after=2.5)
    app.release("v2")
    result = app.push()
    client.communicate(timeout=60)
    told = [event for event in result.events if event["event"] == "drain.progress"]
    first = told[0]
    assert first["health"] == "shutting_down" and first["heard"] is True and first["busy"] == 1
    assert [task["name"] for task in first["tasks"]] == ["callClaude"] and first["tasks"][0]["age_s"] is not None
    assert 0.5 < first["elapsed_s"] < 5 and first["ceiling_s"] == 660
    assert len(first["processes"]) == 2 and "service.py" in first["processes"][0]["command"]
    assert [event["elapsed_s"] for event in told] == sorted(event["elapsed_s"] for event in told)


AT_ONCE = 2.5
"""What two shared cores may add. A keeper that nobody wakes looks when the logs are due, every 15 s."""


def test_next_step_follows_the_exit_at_once(app: App) -> None:
    app.push()
    client = app.task(after=1.0)
    app.release("v2")
    result = app.push()
    client.communicate(timeout=60)
    exited = float(app.lines("WORK_FILE")[0][3])
    assert moment(result.event("drain.finished")) - exited < AT_ONCE
    assert float(app.lines("STARTS_FILE")[1][3]) - exited < 2 * AT_ONCE


def test_tree_that_forks_all_the_time_is_killed_whole(app: App) -> None:
    loop = "trap '' TERM; while :; do (sleep 77 & sleep 77) & sleep 0.1; done"
    app.configure(run=f"command = {json.dumps(loop)}", health=NO_URL, drain='ceiling = "1s"')
    app.push()
    app.configure(args=[], drain='ceiling = "1s"')
    result = app.push(check=5)
    killed = result.event("drain.finished")["killed"]
    assert len(killed) > 10 and result.event("drain.finished")["stuck"] == []
    assert [name for name in map(command_line, app.processes()) if "sleep" in name] == []
