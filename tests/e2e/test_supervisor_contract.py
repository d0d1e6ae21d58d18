"""What every supervisor keeps: the main job, whoever owns the process and whoever dies. Its kinds are in supervised.py."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import wait_until
from supervised import Supervised, supervised
from victims import signals_to_mains

# The built-in one is shown all of this elsewhere, at more length.
FULL = ("builtin", "systemd-user of a user")
BOTH = ("in_flight", "killed_and_named", "whoever_dies", "outlives_its_wrapper")
"""What is shown of the commands too; the rest of it with --full."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    often = any(word in metafunc.function.__name__ for word in BOTH)
    kinds = [
        "systemd-user",
        pytest.param("command", marks=[] if often else pytest.mark.full),
        *(pytest.param(kind, marks=pytest.mark.full) for kind in FULL),
    ]
    metafunc.parametrize("app", kinds, indirect=True)


@pytest.fixture
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Supervised]:
    with supervised(request.param, tmp_path) as made:
        yield made


def never_ready(app: Supervised) -> None:
    app.configure(args=["--health", "never-ready"], health=f'url = "{app.url}/health"\nready_within = "2s"')


def test_push_serves_is_told_by_status_and_the_same_again_is_unchanged(app: Supervised) -> None:
    app.configure(args=["--at-start", "say here I am"])
    assert app.push().event("push.finished")["status"] == "done"
    serving = app.get()
    assert serving["release"] == app.current()
    facts = app.status()
    assert (facts["instance"]["pid"], facts["instance"]["release"]) == (serving["pid"], app.current())
    assert facts["instance"]["uptime_s"] >= 0 and facts["health"]["good"]
    wait_until(lambda: "here I am" in app.run("logs").out, what="the app's output is in `logs`")
    assert app.push().event("push.finished")["status"] == "unchanged"
    assert app.get()["pid"] == serving["pid"]


def test_work_in_flight_is_finished_before_the_new_release_starts(app: Supervised) -> None:
    app.push()
    old, client = app.get(), app.task(after=1)
    app.release("v2")
    drained = app.push().event("drain.finished")
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert drained["verdict"] == "clean" and drained["waited_s"] > 0.8
    assert app.get()["release"] == app.current() != old["release"]
    assert signals_to_mains(app) == {str(old["pid"]): 1}


def test_release_that_is_not_ready_gives_way_to_the_old_one(app: Supervised) -> None:
    app.push()
    old = app.get()
    never_ready(app)
    assert app.push(check=1).event("push.finished")["status"] == "reverted"
    assert app.get()["release"] == app.current() == old["release"]
    app.configure(args=[])
    app.release("v3")
    assert app.push().event("push.finished")["status"] == "done"
    assert set(signals_to_mains(app).values()) == {1}


def test_release_that_exits_at_once_gives_way_to_the_old_one(app: Supervised) -> None:
    app.push()
    old = app.get()
    app.configure(run='command = ["sh", "-c", "exit 3"]')
    app.release("v2")
    assert app.push(check=1).event("push.finished")["status"] == "reverted"
    assert app.get()["release"] == app.current() == old["release"]
    assert len(app.lines("STARTS_FILE")) == 2


def test_process_that_outlasts_the_ceiling_is_killed_and_named(app: Supervised) -> None:
    app.configure(drain='ceiling = "2s"')
    app.push()
    old, client = app.get(), app.task(100)
    app.release("v2")
    drained = app.push(check=5).event("drain.finished")
    assert drained["verdict"] == "killed" and 1.9 < drained["waited_s"] < 20
    assert drained["lost"] != []
    assert app.get()["release"] == app.current() != old["release"]
    client.communicate(timeout=60)


def test_crash_is_mended_and_told_by_status(app: Supervised) -> None:
    app.push()
    old = app.get()
    app.kill(old["pid"])
    wait_until(lambda: app.get()["pid"] != old["pid"], what="it is started again")
    known = wait_until(
        lambda: app.status()["instance"] and app.status()["instance"]["pid"] == app.get()["pid"] and app.get()["pid"],
        what="status knows the new process",
    )
    app.release("v2")
    assert app.push().event("drain.finished")["pid"] == known


def test_stop_start_restart_and_rollback(app: Supervised) -> None:
    app.push()
    first = app.get()
    app.run("restart", check=0)
    second = app.get()
    assert (second["release"], second["pid"] != first["pid"]) == (first["release"], True)
    app.release("v2")
    app.push()
    app.run("rollback", check=0)
    assert app.get()["release"] == first["release"]
    app.run("stop", check=0)
    assert app.status()["instance"] is None
    with pytest.raises(OSError):
        app.get()
    app.run("start", check=0)
    assert app.get()["release"] == first["release"]
    counts = signals_to_mains(app)
    assert set(counts.values()) == {1} and len(counts) == 4


@pytest.mark.parametrize("way", ["--now", "--extend"])
def test_drain_is_ended_and_lengthened_by_a_person(app: Supervised, way: str) -> None:
    app.configure(drain='ceiling = "4s"' if way == "--extend" else 'ceiling = "10m"')
    app.push()
    client = app.task(after=6 if way == "--extend" else 100)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="it was asked to stop")
    app.run("drain", way, *(["60s"] if way == "--extend" else []), check=0)
    _, err = pushing.communicate(timeout=60)
    assert pushing.returncode == (0 if way == "--extend" else 5), err
    assert ('"done"' in client.communicate(timeout=60)[0]) is (way == "--extend")
    assert app.get()["release"] == app.current()


def test_child_that_outlives_its_wrapper_is_waited_for(app: Supervised) -> None:
    words = shlex.join([sys.executable, "-S", "service.py", "--port", str(app.port)])
    app.configure(run=f"command = {json.dumps(f'{words}; true')}\n")
    app.push()
    client = app.task(after=0.5)
    app.configure()
    app.release("v2")
    drained = app.push().event("drain.finished")
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert drained["verdict"] == "clean"
    assert app.get()["release"] == app.current()
    assert set(signals_to_mains(app).values()) == {1}


@pytest.mark.parametrize("who", ["both", *(pytest.param(who, marks=pytest.mark.full) for who in ("runner", "keeper"))])
def test_whoever_dies_in_the_drain_the_service_ends_up_running(app: Supervised, who: str) -> None:
    app.push()
    old, client = app.get(), app.task(100)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="it was asked to stop")
    holder = json.loads((app.host / ".deployer" / "lock").read_text())
    victims = [holder["pid"]] if who != "keeper" else []
    victims += app.engines("keeper") if who != "runner" else []
    assert victims
    app.kill(*victims)
    app.finish()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    wait_until(lambda: app.status()["under_way"] is None, what="the deploy is brought to its end")
    pushing.communicate(timeout=60)
    wait_until(lambda: app.get()["release"] != old["release"], what="the new release serves")
    assert app.status()["instance"]["release"] == app.current() == app.get()["release"]
    assert signals_to_mains(app) == {str(old["pid"]): 1}


def test_secrets_and_env_file_reach_the_app_and_nobody_else(app: Supervised) -> None:
    (app.host / "shared").mkdir(parents=True)
    (app.host / "shared" / "app.env").write_text("SERVICE_VERSION_TEXT=from-the-file\n")
    told = app.root / "told"
    show = f'printf %s "$API_TOKEN" > {told}; sleep 0.1'
    app.configure(run='secrets = ["API_TOKEN"]\nenv_file = "app.env"', args=["--at-start", show])
    app.push(env={"API_TOKEN": "s3cr3t-value"})
    assert told.read_text() == "s3cr3t-value"
    assert app.get()["version"] == "from-the-file"
    app.release("v2")
    app.push(env={"API_TOKEN": "s3cr3t-value"})
    assert "s3cr3t-value" not in app.printed() + app.run("logs").out


def test_service_moves_here_from_the_built_in_supervisor_and_back(app: Supervised) -> None:
    theirs = app.supervisor
    if theirs == "builtin":
        pytest.skip("it is there already")
    app.supervisor, target = "builtin", type(app).target
    builtin = Supervised.target
    type(app).target = builtin  # type: ignore[method-assign]
    try:
        app.configure()
        app.push()
    finally:
        type(app).target = target  # type: ignore[method-assign]
    old, client = app.get(), app.task(after=0.5)
    app.supervisor = theirs
    app.configure()
    assert app.push().event("push.finished")["status"] == "done"
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert app.get()["pid"] != old["pid"]
    assert set(signals_to_mains(app).values()) == {1}
