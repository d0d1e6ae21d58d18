"""`deployer drain --extend` and `--now`: a person moves the ceiling of a drain under way; it is recorded who and when."""

from __future__ import annotations

import os
import signal

import pytest
from test_abort import draining, end, start_push

from app import App, wait_until
from victims import keeper, kill


def test_extended_drain_lets_work_end_that_would_have_been_killed(app: App) -> None:
    app.configure(drain='ceiling = "6s"')
    app.push()
    client = app.task(after=7.0)
    app.release("v2")
    pushing = start_push(app, "replace")
    wait_until(lambda: draining(app), what="it drains")
    moved = app.run("drain", "--extend", "20s", "--json", check=0).event("drain")["hosts"][0]["drains"]
    assert [round(one["ceiling_s"]) for one in moved] == [26]
    pushed = end(pushing)
    assert pushed.code == 0, pushed.err
    assert '"done"' in client.communicate(timeout=60)[0]
    assert pushed.event("drain.finished")["verdict"] == "clean"
    extended = pushed.event("drain.extended")
    assert (extended["by_s"], "@" in extended["who"]) == (20.0, True)


@pytest.mark.full
def test_extension_outlives_the_keeper(app: App) -> None:
    app.configure(drain='ceiling = "6s"')
    app.push()
    client = app.task(after=7.0)
    app.release("v2")
    pushing = start_push(app, "replace")
    wait_until(lambda: draining(app), what="it drains")
    app.run("drain", "--extend", "20s", check=0)
    kill(keeper(app))
    assert end(pushing).code == 0
    assert '"done"' in client.communicate(timeout=60)[0]


def test_drain_ended_now_is_a_kill_that_is_told_with_who_and_what_was_lost(app: App) -> None:
    app.configure(drain='ceiling = "5m"')
    app.push()
    app.task(300.0)
    app.release("v2")
    pushing = start_push(app, "replace")
    wait_until(lambda: draining(app), what="it drains")
    said = app.run("drain", "--now", check=0)
    assert "ended now" in said.out
    pushed = end(pushing)
    assert pushed.code == 5
    finished = pushed.event("drain.finished")
    assert (finished["verdict"], [task["name"] for task in finished["lost"]]) == ("killed", ["callClaude"])
    assert finished["waited_s"] < 45
    assert "@" in pushed.event("drain.cut_short")["who"]


def test_last_call_is_made_before_a_drain_that_is_ended_now(app: App) -> None:
    saved = app.root / "saved.txt"
    app.configure(
        args=["--on-term", "ignore"],
        drain=f'ceiling = "5m"\nlast_call_before = "30s"\nlast_call = "sleep 1; echo $DEPLOYER_PID >> {saved}"',
    )
    app.push()
    pid = app.get()["pid"]
    app.release("v2")
    pushing = start_push(app, "replace")
    wait_until(lambda: draining(app), what="it drains")
    app.run("drain", "--now", check=0)
    pushed = end(pushing)
    assert pushed.code == 5
    assert saved.read_text().split() == [str(pid)]
    # Force waits for the call to end, and not for all the time that it might have taken.
    assert 1 <= pushed.event("drain.finished")["waited_s"] < 25


@pytest.mark.full
def test_now_a_second_time_does_not_wait_for_the_last_call(app: App) -> None:
    app.configure(
        args=["--on-term", "ignore"], drain='ceiling = "5m"\nlast_call_before = "60s"\nlast_call = "sleep 50"'
    )
    app.push()
    app.release("v2")
    pushing = start_push(app, "replace")
    wait_until(lambda: draining(app), what="it drains")
    app.run("drain", "--now", check=0)
    app.run("drain", "--now", check=0)
    assert end(pushing).event("drain.finished")["waited_s"] < 45


def test_nothing_to_move_is_said(app: App) -> None:
    assert "nothing drains" in app.run("drain", "--now", check=0).out
    app.push()
    assert app.run("drain", "--extend", "5m", "--json", check=0).event("drain")["hosts"][0]["drains"] == []
    app.configure(install='command = "until test -e ' + f'{app.root}/installed; do sleep 0.05; done"')
    app.release("v2")
    pushing = start_push(app, "install")
    early = app.run("drain", "--now", check=1)
    assert "no drain" in early.err
    assert "install" in early.err
    (app.root / "installed").touch()
    assert end(pushing).code == 0


def test_drain_wants_to_know_what_to_do(app: App) -> None:
    app.push()
    for args in ((), ("--now", "--extend", "5m"), ("--extend", "5")):
        assert app.run("drain", *args).code == 2
    assert app.get()["status"] == "ok"


@pytest.mark.full
def test_what_a_crash_left_behind_can_be_ended_now(app: App) -> None:
    app.configure(args=["--spawn", "child:60:ignore"], drain='ceiling = "10m"')
    app.push()
    old = app.get()["pid"]
    wait_until(lambda: len(app.lines("STARTS_FILE")) == 2, what="its child runs")
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: app.status()["draining"], what="what is left drains")
    moved = app.run("drain", "--now", "--json", check=0).event("drain")["hosts"][0]["drains"]
    assert [one["pid"] for one in moved] == [old]
    assert wait_until(lambda: app.get()["pid"] != old, what="the service is back")
    assert "asked by" in app.engine_log()
