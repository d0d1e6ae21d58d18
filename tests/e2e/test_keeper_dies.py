"""The keeper dies: the app runs on, and the next keeper goes on with whatever the last one was at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys

from app import App, alive, wait_until
from victims import keeper, kill, rows, signals_to_mains

TICKER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
number = 0
while True:
    number += 1
    print("tick", number, flush=True)
    time.sleep(0.05)
"""


def test_app_outlives_its_killed_keeper_and_the_next_one_adopts_it(app: App) -> None:
    app.push()
    pid = app.get()["pid"]
    kill(keeper(app))
    assert app.get()["pid"] == pid
    status = app.status()
    assert status["instance"]["pid"] == pid and status["keeper"]["pid"] == keeper(app)
    client = app.task(after=1)
    app.release("v2")
    result = app.push()
    assert json.loads(client.communicate(timeout=60)[0])["result"] == "done"
    assert result.event("drain.finished")["verdict"] == "clean"
    assert signals_to_mains(app) == {str(pid): 1}
    assert app.get()["pid"] != pid


def test_output_of_an_app_without_keeper_still_lands_in_its_log(app: App) -> None:
    (app.dist / "ticker.py").write_text(TICKER)
    app.configure(run=f'command = ["{sys.executable}", "-S", "ticker.py"]', health='alive_for = "200ms"')
    app.push()
    kill(keeper(app))
    log = app.host / "logs" / "app.log"
    seen = len(log.read_text().splitlines())
    wait_until(lambda: len(log.read_text().splitlines()) > seen + 5, what="the app goes on printing")
    assert app.run("logs", "-n", "2", check=0).out.splitlines()[-1].startswith("tick ")


def test_app_that_crashed_while_its_keeper_was_dead_is_brought_back_by_status(app: App) -> None:
    app.push()
    pid, release = app.get()["pid"], app.current()
    kill(keeper(app))
    kill(pid)
    status = app.status()
    assert status["instance"]["release"] == release and status["instance"]["pid"] != pid
    assert wait_until(lambda: app.get(), what="it serves")["release"] == release


def test_push_while_app_and_keeper_are_dead_starts_the_new_release(app: App) -> None:
    app.push()
    pid = app.get()["pid"]
    kill(keeper(app))
    kill(pid)
    app.release("v2")
    release = app.push().event("push.finished")["hosts"][0]["release"]
    assert app.get()["release"] == release


def test_keeper_killed_after_the_signal_sends_no_second_one_and_the_new_release_starts(app: App) -> None:
    app.push()
    pid = app.get()["pid"]
    client = app.task(100)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="the signal")
    kill(keeper(app))
    app.finish()
    out, err = pushing.communicate(timeout=60)
    assert pushing.returncode == 0, out + err
    assert json.loads(client.communicate(timeout=60)[0])["result"] == "done"
    assert signals_to_mains(app) == {str(pid): 1}
    assert app.get()["pid"] != pid and app.get()["release"] == app.current()


def test_keeper_killed_before_the_signal_is_replaced_by_one_that_sends_it(app: App) -> None:
    app.push()
    pid = app.get()["pid"]
    doomed = keeper(app)
    app.release("v2")
    pushing = app.start("push", "--json")
    # As soon as the wish is on record: whether the signal has gone out by then is chance, and must not matter.
    wait_until(lambda: rows(app, "SELECT 1 FROM drains"), what="the drain is on record")
    kill(doomed)
    out, err = pushing.communicate(timeout=60)
    assert pushing.returncode == 0, out + err
    assert signals_to_mains(app) == {str(pid): 1}
    assert app.get()["pid"] != pid


def test_keeper_that_dies_with_a_request_unread_is_asked_again(app: App) -> None:
    app.push()
    pid = app.get()["pid"]
    doomed = keeper(app)
    app.configure(args=[], check='command = "touch ../../checked; until [ -e ../../go ]; do sleep 0.02; done"')
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until((app.host / "checked").exists, what="the check runs")
    os.kill(doomed, signal.SIGSTOP)
    (app.host / "go").touch()
    wait_until(lambda: rows(app, "SELECT 1 FROM journal WHERE step='replace'"), what="the runner asks")
    kill(doomed)
    out, err = pushing.communicate(timeout=60)
    assert pushing.returncode == 0, out + err
    assert signals_to_mains(app) == {str(pid): 1}


def test_keeper_that_is_told_to_go_leaves_the_app(app: App) -> None:
    app.push()
    pid, gone = app.get()["pid"], keeper(app)
    os.kill(gone, signal.SIGTERM)
    wait_until(lambda: not alive(gone), what="the keeper goes")
    assert app.get()["pid"] == pid
    assert app.lines("SIGNALS_FILE") == []
    assert app.status()["instance"]["pid"] == pid


def test_keeper_whose_record_was_removed_lets_go_of_the_app(app: App) -> None:
    app.push()
    pid, gone = app.get()["pid"], keeper(app)
    shutil.rmtree(app.host / ".deployer")
    os.kill(gone, signal.SIGCHLD)  # anything that wakes it
    wait_until(lambda: not alive(gone), what="the keeper goes")
    assert app.get()["pid"] == pid and app.lines("SIGNALS_FILE") == []
    refusal = app.push(check=6)
    assert str(pid) in refusal.out + refusal.err
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid), what="the app goes")
