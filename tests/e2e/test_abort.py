"""`deployer abort`: from another terminal, at any stage; the service ends on the old release, and no work is lost."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import subprocess
from typing import Any

import pytest

from app import App, Result, alive, wait_until
from victims import keeper, kill, rows, runners, signals_to_mains


def end(pushing: subprocess.Popen[str]) -> Result:
    out, err = pushing.communicate(timeout=60)
    return Result(pushing.returncode, out, err, 0.0)


def at_step(app: App, step: str) -> bool:
    return bool(rows(app, "SELECT 1 FROM deploys WHERE ended_at IS NULL AND step=?", step))


def start_push(app: App, step: str, *args: str) -> subprocess.Popen[str]:
    pushing = app.start("push", "--json", *args)
    wait_until(lambda: at_step(app, step) or pushing.poll() is not None, what=f"the push is at {step}")
    assert pushing.poll() is None, pushing.communicate()
    return pushing


def draining(app: App) -> bool:
    return bool(app.lines("SIGNALS_FILE"))


def promised(app: App) -> list[str]:
    return [row["release"] for row in rows(app, "SELECT release FROM instances WHERE state='promised'")]


def abort_while_it_works(app: App, old: str) -> Result:
    """Abort; the work in flight is done once nothing but the old release is promised any more."""
    aborting = app.start("abort", "--json")
    wait_until(lambda: promised(app) == [old], what="the old release is promised")
    app.finish()
    aborted = end(aborting)
    assert aborted.code == 0, aborted.err
    return aborted


def one_deploy_ended(app: App, status: str, code: int) -> dict[str, Any]:
    last = rows(app, "SELECT * FROM deploys ORDER BY started_at DESC, rowid DESC LIMIT 1")[0]
    assert (last["status"], last["exit_code"]) == (status, code), last
    return last


def test_abort_in_the_drain_lets_the_work_end_and_starts_the_old_release_again(app: App) -> None:
    app.push()
    old = app.get()
    client = app.task(100)
    app.release("v2")
    pushing = start_push(app, "replace")
    wait_until(lambda: draining(app), what="the old process was asked to stop")
    aborted = abort_while_it_works(app, old["release"])
    pushed = end(pushing)
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert pushed.code == 1
    assert pushed.event("push.finished")["status"] == "reverted"
    asked = pushed.event("abort.asked")
    assert "@" in asked["who"]
    assert pushed.event("drain.finished")["verdict"] == "clean"
    assert pushed.event("drain.finished")["waited_s"] > 0
    assert "aborted by" in pushed.err
    assert aborted.events[-1]["event"] == "abort.finished"
    assert aborted.events[-1]["status"] == "aborted"
    assert aborted.events[-1]["hosts"][0]["release"] == old["release"]
    assert aborted.err == ""
    new = app.get()
    assert (new["release"], new["pid"] != old["pid"]) == (old["release"], True)
    assert app.current() == old["release"]
    assert signals_to_mains(app) == {str(old["pid"]): 1}
    one_deploy_ended(app, "reverted", 1)
    assert rows(app, "SELECT 1 FROM instances WHERE state='promised'") == []
    # What was aborted was never started, and the host is as it should be: the next push goes through.
    assert len(app.lines("STARTS_FILE")) == 2
    assert app.push().event("push.finished")["status"] == "done"


@pytest.mark.parametrize("step", ["install", "check"])
def test_abort_in_a_gate_ends_its_command_and_touches_nothing(app: App, step: str) -> None:
    app.push()
    old = app.get()
    app.configure(**{step: 'command = "sleep 300 & echo $! > gate.pid; wait"'})
    app.release("v2")
    pushing = start_push(app, step)
    note = wait_until(lambda: list(app.host.glob("releases/*/gate.pid")), what="the gate runs")[0]
    sleeper = int(wait_until(lambda: note.read_text().strip(), what="its pid"))
    aborted = app.run("abort", check=0)
    pushed = end(pushing)
    assert (pushed.code, pushed.event("push.finished")["status"]) == (1, "failed")
    assert "aborted" in aborted.out
    assert not alive(sleeper)
    assert app.get()["pid"] == old["pid"]
    assert app.current() == old["release"]
    assert not draining(app)
    assert len(list((app.host / "releases").iterdir())) == 1


def test_abort_of_a_new_release_that_is_still_starting_brings_the_old_one_back(app: App) -> None:
    app.push()
    old = app.get()
    app.configure(args=["--health", "never-ready"], health=f'url = "{app.url}/health"\nready_within = "60s"')
    app.release("v2")
    pushing = start_push(app, "ready")
    app.run("abort", check=0)
    pushed = end(pushing)
    assert (pushed.code, pushed.event("push.finished")["status"]) == (1, "reverted")
    assert app.get()["release"] == old["release"]
    assert app.current() == old["release"]


def test_abort_while_the_client_still_builds_frees_the_host_at_once(app: App) -> None:
    app.push()
    old = app.get()
    app.configure(build='artifact = "dist"\ncommand = "until test -e built; do sleep 0.05; done"')
    app.release("v2")
    building = app.start("push", "--json")
    wait_until(lambda: runners(app), what="the lock is held")
    aborted = app.run("abort", "--json", check=0)
    assert aborted.events[-1]["status"] == "aborted"
    assert runners(app) == []
    (app.root / "built").touch()
    pushed = end(building)
    assert (pushed.code, pushed.event("push.finished")["status"]) == (1, "failed")
    assert "aborted by" in pushed.err
    assert app.get()["pid"] == old["pid"]
    assert app.push("--no-build").event("push.finished")["status"] == "done"


def test_abort_asked_of_a_runner_that_dies_is_kept_by_the_next_one(app: App) -> None:
    app.push()
    old = app.get()
    app.task(100)
    app.release("v2")
    pushing = start_push(app, "replace")
    wait_until(lambda: draining(app), what="the old process was asked to stop")
    aborting = app.start("abort", "--json", "--detach")
    assert aborting.wait(60) == 0
    for pid in runners(app):
        kill(pid)
    app.finish()
    pushed = end(pushing)
    assert (pushed.code, pushed.event("push.finished")["status"]) == (1, "reverted")
    assert re.search(r"push aborted by \S+@", pushed.err)
    assert app.get()["release"] == old["release"]
    # The next runner may come only after the new release was started, as promised: then that one is asked to stop, too.
    signals = signals_to_mains(app)
    assert signals[str(old["pid"])] == 1 and set(signals.values()) == {1}


def test_abort_with_a_dead_runner_and_nobody_following(app: App) -> None:
    app.push()
    old = app.get()
    app.task(100)
    app.release("v2")
    pushing = start_push(app, "replace")
    wait_until(lambda: draining(app), what="the old process was asked to stop")
    pushing.send_signal(signal.SIGTERM)
    assert end(pushing).code == 130
    for pid in runners(app):
        kill(pid)
    abort_while_it_works(app, old["release"])
    assert app.get()["release"] == old["release"]
    one_deploy_ended(app, "reverted", 1)


def test_abort_of_a_stop_and_of_a_first_push(app: App) -> None:
    app.configure(args=["--health", "never-ready"], health=f'url = "{app.url}/health"\nready_within = "60s"')
    pushing = start_push(app, "ready")
    app.run("abort", check=0)
    pushed = end(pushing)
    assert (pushed.code, pushed.event("push.finished")["status"]) == (1, "failed")
    assert "nothing ran before" in pushed.err
    assert app.status()["instance"] is None
    app.configure(args=[])
    app.push()
    old = app.get()
    app.task(100)
    stopping = app.start("stop", "--json")
    wait_until(lambda: str(old["pid"]) in signals_to_mains(app), what="it was asked to stop")
    abort_while_it_works(app, old["release"])
    assert end(stopping).code == 1
    assert app.get()["release"] == old["release"]


def test_abort_after_quiet_starts_the_old_release_anew_and_loses_nothing(app: App) -> None:
    app.push()
    old = app.get()
    client = app.task(after=1.5)
    app.configure(drain='quiet = "touch quieted"\nwait_idle = "60s"\nrevert_ceiling = "1s"')
    app.release("v2")
    pushing = start_push(app, "wait_idle")
    app.run("abort", check=0)
    assert end(pushing).code == 1
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    new = app.get()
    assert (new["release"], new["pid"] != old["pid"]) == (old["release"], True)


def test_abort_with_nothing_under_way_says_so(app: App) -> None:
    assert "nothing" in app.run("abort", check=0).out
    app.push()
    result = app.run("abort", "--json", check=0)
    assert result.event("abort.finished")["status"] == "nothing"


def test_abort_of_a_deploy_whose_runner_only_lets_go_of_the_lock_tells_how_it_ended(app: App) -> None:
    """Its record has ended, its lock is still held: nothing is left to stop, least of all what holds the lock."""
    app.push()
    holding = app.host / ".deployer" / "lock"
    last = one_deploy_ended(app, "done", 0)
    said = {"deploy": last["id"], "kind": "push", "who": "me", "since": 1.0, "pid": keeper(app)}
    with holding.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(said).ljust(300))
        file.flush()
        result = app.run("abort", "--json")
    assert (result.code, "before it could be aborted" in result.err) == (1, True), result.err
    assert app.run("drain", "--now").code == 0
    assert keeper(app) == said["pid"]
