"""The keeper: it looks after the app, and whoever of the two dies, the service goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from app import SOURCE, App, alive, wait_until
from victims import instance_of, keeper, keepers, kill, rows, signals_to_mains, ticks

TICKER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
number = 0
while True:
    number += 1
    print("tick", number, flush=True)
    time.sleep(0.05)
"""


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_killed_app_is_restarted_as_another_instance_of_the_same_release(app: App) -> None:
    app.push()
    before = app.get()
    instance = instance_of(before["pid"])
    kill(before["pid"])
    after = wait_until(lambda: app.get(), what="the app is back")
    assert after["pid"] != before["pid"] and after["release"] == before["release"]
    assert instance_of(after["pid"]) != instance
    assert app.status()["instance"]["pid"] == after["pid"]


def test_app_that_keeps_crashing_is_restarted_ever_more_slowly(app: App) -> None:
    app.configure(args=["--crash-after", "0.6"])
    app.push()
    starts = wait_until(lambda: (lines := app.lines("STARTS_FILE"))[3:] and lines, within=30, what="four starts")
    times = [float(line[3]) for line in starts]
    assert times[2] - times[1] > times[1] - times[0] + 0.3
    assert times[3] - times[2] > times[2] - times[1] + 0.6


def test_a_failed_release_is_never_restarted(app: App) -> None:
    app.configure(args=["--exit-at-once", "3"])
    assert app.push(check=8).event("push.finished")["status"] == "down"
    for found in keepers(app):
        kill(found)
    assert app.status()["instance"] is None
    assert len(app.lines("STARTS_FILE")) == 1


def test_app_outlives_its_killed_keeper_and_the_next_one_adopts_it(app: App) -> None:
    app.push()
    pid = app.get()["pid"]
    kill(keeper(app))
    assert app.get()["pid"] == pid
    status = app.status()
    assert status["instance"]["pid"] == pid and status["keeper"]["pid"] == keeper(app)
    client = app.task(2)
    app.release("v2")
    result = app.push()
    assert json.loads(client.communicate(timeout=5)[0])["result"] == "done"
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
    client = app.task(2.5)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="the signal")
    kill(keeper(app))
    out, err = pushing.communicate(timeout=30)
    assert pushing.returncode == 0, out + err
    assert json.loads(client.communicate(timeout=5)[0])["result"] == "done"
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
    out, err = pushing.communicate(timeout=30)
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
    out, err = pushing.communicate(timeout=30)
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


def test_there_are_never_two_keepers(app: App) -> None:
    app.push()
    pid = app.get()["pid"]
    kill(keeper(app))
    threads = [threading.Thread(target=app.status) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = keeper(app)
    argv = Path(f"/proc/{first}/cmdline").read_bytes().decode().split("\0")[:-1]
    second = subprocess.run(argv, timeout=20, env={"PATH": os.environ["PATH"], "DEPLOYER_ENGINE": "keeper"})
    assert second.returncode == 0
    assert keepers(app) == [first] and app.get()["pid"] == pid


def test_keeper_goes_after_a_stop_and_leaves_no_socket_listening(app: App) -> None:
    app.configure(run=f'socket = "127.0.0.1:{app.port}"', args=[])
    app.push()
    gone = keeper(app)
    app.run("stop", check=0)
    wait_until(lambda: not alive(gone), within=10, what="the keeper goes by itself")
    assert refused(app.port)
    assert app.status()["instance"] is None and keepers(app) == []


def test_keeper_goes_on_as_the_engine_of_a_newer_client_and_lets_go_of_nothing(app: App, tmp_path: Path) -> None:
    app.configure(run=f'socket = "127.0.0.1:{app.port}"', args=[])
    app.push()
    pid, same = app.get()["pid"], keeper(app)
    newer = tmp_path / "newer"
    shutil.copytree(SOURCE, newer, ignore=shutil.ignore_patterns("__pycache__"))
    with open(newer / "deployer" / "host" / "clock.py", "a") as file:
        file.write("# newer\n")
    before = Path(f"/proc/{same}/cmdline").read_bytes()
    client = app.task(2)
    app.release("v2")
    result = app.push(env={"PYTHONPATH": str(newer)})
    assert json.loads(client.communicate(timeout=5)[0])["result"] == "done"
    # It is still the parent: nobody else could know the exit code.
    assert result.event("drain.finished")["exit_code"] == 0
    assert signals_to_mains(app) == {str(pid): 1}
    assert keeper(app) == same and Path(f"/proc/{same}/cmdline").read_bytes() != before
    assert rows(app, "SELECT count(*) AS n FROM instances")[0]["n"] == 2


def test_keeper_sleeps_while_a_child_of_the_app_comes_and_goes(app: App) -> None:
    app.configure(args=["--spawn", "child:1.5"])
    app.push()
    app.status()
    wait_until(lambda: app.lines("WORK_FILE"), what="the child is done")
    watched = keeper(app)
    used, woken = ticks(watched), threading.Event()
    woken.wait(1.0)
    assert ticks(watched) - used < 30


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
