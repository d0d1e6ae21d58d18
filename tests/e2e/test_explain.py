"""One deploy explained, and what the drains of the past say about the next one: with real processes."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from app import App, Result, heard, wait_until
from evidence import faults, signals
from victims import kill, rows, runners


def explained(app: App, *words: str) -> dict[str, Any]:
    """What `deployer explain --json` says of the one host."""
    result = app.run("explain", *words, "--json", check=0)
    assert faults(result) == []
    found: dict[str, Any] = result.event("explain")["hosts"][0]
    return found


def entries(told: dict[str, Any], what: str) -> list[dict[str, Any]]:
    return [entry for entry in told["timeline"] if entry["what"] == what]


def pushed(app: App, version: str, seconds: float, name: str = "callClaude", **more: Any) -> Result:
    """Push *version* over a task that goes on for *seconds* once the app was asked to stop."""
    task = app.task(name=name, after=seconds)
    app.release(version)
    result = app.push(**more)
    task.communicate(timeout=60)
    return result


def test_explain_names_the_task_that_was_waited_for_and_keeps_both_logs(app: App) -> None:
    app.push()
    old = app.get()["pid"]
    result = pushed(app, "v2", 2.5)
    told = explained(app)
    assert told["deploy"]["deploy"] == result.event("push.finished")["deploy"]
    (drain,) = entries(told, "drain")
    assert drain["took_s"] == result.event("drain.finished")["waited_s"] > 0.5
    assert drain["waited_for"].startswith(f"pid {old} (")
    assert " to finish: callClaude (" in drain["waited_for"]
    assert [entry["text"] for entry in entries(told, "signal")] == [f"SIGTERM to pid {old}"]
    assert told["waits"]["parts"][0]["what"] == "drain"
    assert told["waits"]["total_s"] > drain["took_s"]
    assert f"SIGTERM received by main {old}" in told["logs"]["old"]
    assert any(line.startswith(f"serving, pid {app.get()['pid']}") for line in told["logs"]["new"])
    assert not any("SIGTERM" in line for line in told["logs"]["new"])
    assert any("keeper drained" in line for line in told["logs"]["engine"])
    (app.host / "logs" / "app.log").unlink()  # rotated away since
    assert explained(app, told["deploy"]["deploy"])["logs"] == told["logs"]
    human = app.run("explain", check=0).out
    assert "callClaude" in human and "█" in human and "waiting for the old process's work" in human


def test_explain_of_a_reverted_push_shows_what_the_broken_release_printed(app: App) -> None:
    app.push()
    first = app.current()
    app.release("v2")
    app.configure(args=["--exit-at-once", "7"])
    human = app.run("push", check=1)
    told = explained(app)
    assert f"next   deployer explain local {told['deploy']['deploy']}" in human.out
    assert told["logs"]["new"] == ["fatal: cannot open the database: no such file"]
    assert any("SIGTERM received" in line for line in told["logs"]["old"])
    assert [entry["text"] for entry in entries(told, "revert")][1:] == [f"{first} serves again"]
    assert "by itself with code 7" in entries(told, "exit")[0]["text"]
    assert told["deploy"]["status"] == "reverted"


def test_explain_of_a_failed_gate_says_what_it_printed(app: App) -> None:
    app.configure(check='command = ["sh", "-c", "echo broken; exit 3"]')
    app.push(check=7)
    told = explained(app)
    assert entries(told, "check")[0]["waited_for"].startswith("check: ")
    assert any("broken" in line for line in entries(told, "end")[0]["detail"])
    assert told["logs"]["old"] == told["logs"]["new"] == []


def test_explain_works_while_the_deploy_is_under_way_and_after_its_runner_died(app: App) -> None:
    app.push()
    task = app.task(100, "summarize")
    app.release("v2")
    client = app.start("push", "--json")
    wait_until(lambda: signals(app), what="the drain has begun")
    now = explained(app)
    (drain,) = entries(now, "drain")
    assert drain["so_far"] and "summarize" in drain["waited_for"] and " so far" in now["waits"]["summary"]
    assert any("SIGTERM received" in line for line in now["logs"]["old"])
    kill(runners(app)[0])
    app.finish()
    client.communicate(timeout=60)
    task.communicate(timeout=60)
    wait_until(lambda: explained(app)["deploy"]["ended_at"], what="another runner ended it")
    told = explained(app)
    assert entries(told, "resumed")
    assert told["deploy"]["status"] == "done" and not any(entry["so_far"] for entry in told["timeline"])
    assert any("runner resumes" in line for line in told["logs"]["engine"])


def test_explain_of_what_is_not_there_says_where_to_look(app: App) -> None:
    nothing = app.run("explain", check=2)
    assert "nothing was deployed here yet" in nothing.err
    app.push()
    app.run("restart", check=0)
    unknown = app.run("explain", "1999", check=2)
    assert 'no deploy here is called "1999"' in unknown.err and "deployer history" in unknown.err
    several = app.run("explain", "20", check=2)
    names = [row["id"] for row in rows(app, "SELECT id FROM deploys")]
    assert len(names) == 2 and all(name in several.err for name in names)
    assert app.run("explain", names[0], check=0).out.startswith(names[0])
    assert f"deployer explain local {names[1]}" in app.run("history", check=0).out


def test_wait_for_the_lock_is_told_with_its_holder(app: App) -> None:
    app.push()
    task = app.task(100)
    holder = app.start("restart", "--json")
    wait_until(lambda: signals(app), what="the drain has begun")
    app.release("v2")
    waiting = app.start("push", "--json", "--wait-lock", "60s")
    heard(waiting, "lock.waiting")
    app.finish()
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    holder.communicate(timeout=60)
    task.communicate(timeout=60)
    (waited,) = entries(explained(app), "lock")
    assert waited["waited_for"].startswith("the lock: restart ") and waited["took_s"] > 0


@pytest.mark.full
def test_plan_and_push_say_what_the_drains_before_took(app: App) -> None:
    assert "expected" not in str(app.push().events)
    for number, seconds in enumerate((1, 0.5, 0.5)):
        result = pushed(app, f"v{number}", seconds)
    assert result.event("drain.started")["expected"]["count"] == 2
    assert faults(result) == []
    app.release("v9")
    (host,) = app.run("plan", "--json", check=0).event("plan")["hosts"]
    drains = host["drains"]
    assert (drains["count"], drains["killed"]) == (3, 0) and 0 < drains["median_s"] < drains["longest_s"] < 10
    (step,) = [step["what"] for step in host["steps"] if step["step"] == "replace"]
    assert f", {drains['text']}; then start" in step and "(last 3 drains)" in step
    assert app.status()["drains"] == drains
    past = app.run("history", "--json", check=0).event("history")["hosts"][0]["deploys"]
    assert [[drain["verdict"] for drain in deploy["drains"]] for deploy in past] == [["clean"]] * 3 + [[]]


@pytest.mark.full
def test_ceiling_that_is_close_to_the_longest_drain_is_warned_of_before_the_signal(app: App) -> None:
    app.push()
    waited = pushed(app, "v2", 3).event("drain.finished")["waited_s"]
    app.configure(drain=f'ceiling = "{waited * 1.1:.3f}s"')
    app.release("v3")
    close = "longest drain seen"
    (warning,) = app.run("plan", "--json", check=0).event("plan")["warnings"]
    assert close in warning
    (check,) = [one for one in app.run("doctor", "--json").event("doctor")["checks"] if one["check"] == "ceiling"]
    assert check["ok"] is None and check["detail"] == warning
    result = app.push()
    told = [event for event in result.events if event["event"] == "warning"]
    assert [event["text"] for event in told] == [warning]
    assert result.names().index("warning") < result.names().index("drain.finished")
    assert entries(explained(app), "warning")[0]["text"] == warning


def test_drain_that_was_killed_is_warned_of_the_next_time(app: App) -> None:
    app.configure(args=["--on-term", "ignore"], drain='ceiling = "500ms"')
    app.push()
    app.release("v2")
    killed = app.run("push", check=5)
    told = explained(app)
    assert f"deployer explain local {told['deploy']['deploy']}" in killed.out
    assert entries(told, "force")[0]["text"].startswith("SIGKILL to pid ")
    app.release("v3")
    result = app.push(check=5)
    assert "work may be lost again" in result.event("warning")["text"]


def test_drain_of_a_release_that_never_got_ready_is_expected_to_take_nothing_and_counts_for_nothing(app: App) -> None:
    health = f'url = "{app.url}/health"\ninterval = "50ms"\nready_within = "500ms"'
    app.configure(health=health)
    app.push()
    pushed(app, "v2", 0.5)
    app.release("v3")
    app.configure(args=["--health", "never-ready"], health=health)
    result = app.push(check=1)
    drains = [event["expected"] for event in result.events if event["event"] == "drain.started"]
    assert drains[0]["count"] == 1 and drains[1] is None
    assert app.status()["drains"]["count"] == 2
    told = explained(app)
    assert len(entries(told, "drain")) == 2 and not entries(told, "exit")
    (past, *_) = app.run("history", "--json", check=0).event("history")["hosts"][0]["deploys"]
    assert [drain["verdict"] for drain in past["drains"]] == ["clean", "clean"]


def test_push_forgets_what_was_recorded_of_very_old_deploys(app: App) -> None:
    app.push()
    database = sqlite3.connect(app.host / ".deployer" / "state.db", timeout=10)
    with database:
        for number in range(600):
            database.execute(
                "INSERT INTO deploys (id, kind, started_at, ended_at) VALUES (?, 'push', ?, ?)",
                [f"d{number}", number, number],
            )
            database.execute("INSERT INTO journal VALUES (?, 1, 'stage', 'begin', '{}', ?)", [f"d{number}", number])
    database.close()
    pushed(app, "v2", 0.2)
    left = {row["deploy"] for row in rows(app, "SELECT DISTINCT deploy FROM journal")}
    # 500 ended ones before the push began to forget, and the push itself.
    assert len(left) == 501 and "d599" in left and "d0" not in left
    assert app.run("explain", check=0).out
