"""A service that launchd runs: the main job. launchd itself is imitated (launchd_rig.py): this shows our half of it only."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import alive, wait_until
from launchd_rig import LaunchdApp, app_under_launchd
from victims import keeper, signals_to_mains

SUPERVISOR = 'supervisor = "launchd"\n'


@pytest.fixture
def app(tmp_path: Path) -> Iterator[LaunchdApp]:
    with app_under_launchd(tmp_path) as made:
        yield made


def label(app: LaunchdApp) -> str:
    return f"deployer.t-app.{app.current()}"


def test_work_in_flight_is_finished_and_one_job_is_left(app: LaunchdApp) -> None:
    app.push()
    old, first = app.get(), label(app)
    assert app.jobs() == [first] and app.at_boot()["Label"] == first
    client = app.task(3)
    app.release("v2")
    result = app.push()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    drained = result.event("drain.finished")
    assert (drained["verdict"], drained["exit_code"]) == ("clean", 0)
    assert app.get()["release"] == app.current() != old["release"]
    assert signals_to_mains(app) == {str(old["pid"]): 1}
    wait_until(lambda: app.jobs() == [label(app)], what="the old job has been unloaded")
    assert app.at_boot()["Label"] == label(app)
    # launchd stopped nothing: it would have killed after 60 s.
    assert app.calls("kill") == [] and app.calls("bootout") == [f"bootout gui/501/{first}"]
    assert app.push().event("push.finished")["status"] == "unchanged"
    assert app.modes("*.sh") == {"0o600"} == app.modes("*.plist")


@pytest.mark.full
def test_broken_release_gives_way_and_is_not_started_again(app: LaunchdApp) -> None:
    app.push()
    old = app.get()
    app.configure(run='command = ["sh", "-c", "exit 3"]', more=SUPERVISOR)
    app.release("v2")
    result = app.push(check=1)
    assert result.event("push.finished")["status"] == "reverted"
    assert "code 3" in result.err
    assert app.get()["release"] == old["release"] == app.current()
    assert app.at_boot()["Label"] == label(app)


@pytest.mark.full
def test_process_that_outlasts_the_ceiling_is_killed_by_the_keeper(app: LaunchdApp) -> None:
    app.configure(drain='ceiling = "3s"', more=SUPERVISOR)
    app.push()
    client = app.task(100)
    app.release("v2")
    drained = app.push(check=5).event("drain.finished")
    assert drained["verdict"] == "killed" and drained["lost"] != []
    client.communicate(timeout=60)


@pytest.mark.full
def test_child_that_works_on_after_its_wrapper_has_gone_is_waited_for(app: LaunchdApp) -> None:
    done = app.root / "done"
    child = f"trap '' TERM; exec 0</dev/null; sleep 2; touch {done}"
    service = f"{sys.executable} -S service.py --port {app.port}"
    app.configure(run=f'command = [\'sh\', \'-c\', """({child}) & exec {service}"""]', more=SUPERVISOR)
    app.push()
    app.release("v2")
    app.push()
    assert done.exists()


@pytest.mark.full
def test_crash_is_mended_by_launchd_and_told_by_status(app: LaunchdApp) -> None:
    app.push()
    old = app.get()
    os.kill(old["pid"], signal.SIGKILL)
    wait_until(lambda: app.get()["pid"] != old["pid"], what="launchd starts it again")
    assert app.status()["instance"]["pid"] == app.get()["pid"]
    app.release("v2")
    app.push()
    assert app.get()["release"] == app.current()


@pytest.mark.full
def test_stop_start_restart_rollback_and_boot(app: LaunchdApp) -> None:
    app.push()
    first = app.get()
    app.run("restart", check=0)
    assert app.get()["release"] == first["release"] and app.get()["pid"] != first["pid"]
    app.release("v2")
    app.push()
    app.run("rollback", check=0)
    assert app.get()["release"] == first["release"]
    app.boot()
    wait_until(lambda: app.get()["release"] == first["release"], what="it runs after a login")
    wait_until(
        lambda: app.status()["instance"]["pid"] == app.get()["pid"], what="the keeper has been started and looked"
    )
    app.run("stop", check=0)
    assert app.status()["instance"] is None
    wait_until(lambda: app.jobs() in ([], ["deployer.t-app.keeper"]), what="no job of a release is loaded")
    assert not (app.agents / "deployer.t-app.plist").exists()
    app.run("start", check=0)
    assert app.get()["release"] == first["release"] and app.at_boot()["Label"] == label(app)
    assert set(signals_to_mains(app).values()) == {1}


def foreign(app: LaunchdApp, **more: object) -> int:
    """A service that somebody else has under launchd, as com.example.agent; its pid."""
    command = [sys.executable, "-S", str(app.dist / "service.py"), "--port", str(app.port)]
    env = {"SIGNALS_FILE": str(app.root / "signals_file.txt")}
    app.load("com.example.agent", ProgramArguments=command, EnvironmentVariables=env, KeepAlive=True, **more)
    return int(wait_until(app.get, what="the other service answers")["pid"])


def test_job_that_launchd_would_kill_too_early_is_refused_with_both_rungs(app: LaunchdApp) -> None:
    pid = foreign(app, ExitTimeOut=900)
    app.configure(adopt='unit = "com.example.agent"', more=SUPERVISOR)
    result = app.run("push")
    assert result.code == 2, result.err
    for word in ("ExitTimeOut of com.example.agent is 1m", "drain.ceiling is 11m", "says 900 s"):
        assert word in result.err
    assert alive(pid) and app.calls("bootout") == []


@pytest.mark.full
def test_job_is_adopted_by_its_label_and_loaded_again_by_a_revert(app: LaunchdApp) -> None:
    pid = foreign(app, ExitTimeOut=50)
    more = {"adopt": 'unit = "com.example.agent"', "drain": 'ceiling = "30s"', "more": SUPERVISOR}
    health = f'url = "{app.url}/health"\nready_within = "2s"'
    app.configure(args=["--health", "never-ready"], health=health, **more)
    result = app.run("push", "--json")
    assert result.event("push.finished")["status"] == "reverted", result.err + app.engine_log()
    again = app.get()["pid"]
    assert again != pid and "com.example.agent" in app.jobs()
    assert signals_to_mains(app)[str(pid)] == 1
    app.configure(args=[], **more)
    app.push()
    assert app.get()["release"] == app.current()
    wait_until(lambda: app.jobs() == [label(app)], what="the other job has been unloaded")
    assert (app.root / "launchd" / "disabled-com.example.agent").exists()


@pytest.mark.full
def test_killed_keeper_is_followed_by_one_that_asks_nobody_twice(app: LaunchdApp) -> None:
    app.push()
    old, client = app.get(), app.task(600)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="the old release has been asked to stop")
    os.kill(keeper(app), signal.SIGKILL)
    app.finish()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    out, err = pushing.communicate(timeout=60)
    assert pushing.returncode == 0, out + err
    assert app.get()["release"] == app.current() != old["release"]
    assert signals_to_mains(app) == {str(old["pid"]): 1}
    assert len(app.lines("SIGNALS_FILE")) == 1
