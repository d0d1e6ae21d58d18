"""
Whenever the keeper dies, or everybody at once, the service ends on the old release or on the new one; no work is lost.

A short version of `scripts/faults`, which tries every moment: here the ones at which most is at stake.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from scenario import ends, kill_quietly
from test_disk import change

from app import App, read, wait_until
from victims import agents, keepers, power_cut, rows, runners, signals_to_mains, unfinished

HANDED_OVER = "INSERT INTO instances"
SIGNALLING = "INSERT OR REPLACE INTO signals"
DRAINED = "UPDATE drains SET verdict"
STARTING = "UPDATE instances SET pid"


def test_keeper_that_dies_is_followed_by_one_that_goes_on_from_the_record(served: App) -> None:
    writes = [(HANDED_OVER, False), (SIGNALLING, False), (DRAINED, False), (STARTING, False)]
    assert ends(served, "keeper", writes) == ["done"] * 4


@pytest.mark.full
def test_keeper_that_dies_with_a_broken_release_is_followed_by_one_that_brings_the_old_one_back(served: App) -> None:
    writes = [(SIGNALLING, True), (STARTING, True), ("SET confirmed", True)]
    assert ends(served, "keeper", writes) == ["reverted"] * 3


def test_when_everybody_dies_the_next_status_resolves_it(served: App) -> None:
    writes = [("check begin", False), ("drain.started", False), ("replace done", False), ("revert begin", True)]
    assert ends(served, "all", writes) == ["failed", "failed", "done", "reverted"]


def test_when_everybody_dies_the_next_push_resolves_it_and_goes_on(served: App) -> None:
    old = served.get()["pid"]
    client = served.task(1.5)
    served.release("v2")
    pushing = served.start("push", "--json")
    wait_until(lambda: served.lines("SIGNALS_FILE"), what="the drain is under way")
    for pid in [pushing.pid, *keepers(served), *agents(served), *runners(served)]:
        kill_quietly(pid)
    pushing.communicate()
    served.release("v3")
    result = served.push()
    assert '"done"' in client.communicate(timeout=60)[0]
    assert served.get()["release"] == result.event("push.finished")["hosts"][0]["release"]
    assert signals_to_mains(served)[str(old)] == 1 and not unfinished(served)
    ends = {row["id"]: row["status"] for row in rows(served, "SELECT id, status FROM deploys ORDER BY started_at")}
    assert list(ends.values()) == ["done", "done", "done"], _told(served)


def test_after_a_power_cut_status_brings_the_service_back_and_the_push_to_its_end(served: App) -> None:
    writes = [("install instance", True), ("switch done", False), ("drain.started", False)]
    writes += [("start.finished", False), ("revert begin", True)]
    first, second, draining, started, last = ends(served, "power", writes)
    assert [first, second, last] == ["failed", "failed", "reverted"]
    assert draining in ("failed", "done") and started in ("done", "reverted")


def test_process_that_has_the_pid_of_one_of_the_dead_boot_is_left_alone(served: App) -> None:
    power_cut(served)
    script = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: print('signalled', flush=True)); print('up', flush=True)"
    wait = "; [signal.pause() for _ in range(9)]"
    innocent = subprocess.Popen([sys.executable, "-S", "-c", script + wait], stdout=subprocess.PIPE, text=True)
    try:
        assert innocent.stdout is not None and innocent.stdout.readline() == "up\n"
        start = int(read(f"/proc/{innocent.pid}/stat").rpartition(b")")[2].split()[19])
        change(served, f"UPDATE instances SET pid={innocent.pid}, start={start}")
        assert served.status()["instance"]["pid"] != innocent.pid
        served.release("v9")
        served.push()
        served.run("stop", check=0)
        assert innocent.poll() is None
    finally:
        innocent.kill()
        assert innocent.communicate()[0] == ""


def _told(app: App) -> str:
    """Why a deploy did not end well: the events of all, and what the engine said."""
    events = [row["event"] for row in rows(app, "SELECT event FROM events ORDER BY rowid")]
    return "\n".join([*events, app.engine_log()])
