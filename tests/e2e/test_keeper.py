"""The keeper: it restarts the app when it crashes, goes when there is nothing to keep, and there is never a second one."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from app import SOURCE, App, alive, wait_until
from victims import instance_of, keeper, keepers, kill, rows, signals_to_mains, ticks


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
    starts = wait_until(lambda: (lines := app.lines("STARTS_FILE"))[3:] and lines, what="four starts")
    times = [float(line[3]) for line in starts]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    # A busy machine only makes them longer. 0.6 s it runs each time.
    assert all(gap > 0.6 + 0.5 * 2**count - 0.05 for count, gap in enumerate(gaps[:3])), gaps


def test_a_failed_release_is_never_restarted(app: App) -> None:
    app.configure(args=["--exit-at-once", "3"])
    assert app.push(check=8).event("push.finished")["status"] == "down"
    for found in keepers(app):
        kill(found)
    assert app.status()["instance"] is None
    assert len(app.lines("STARTS_FILE")) == 1


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
    wait_until(lambda: not alive(gone), what="the keeper goes by itself")
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
    client = app.task(after=1)
    app.release("v2")
    result = app.push(env={"PYTHONPATH": str(newer)})
    assert json.loads(client.communicate(timeout=60)[0])["result"] == "done"
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
