"""A service that a real `systemd --user` runs: the main job, whoever dies."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import wait_until
from systemd_rig import InsideApp, app_in, user_manager
from victims import signals_to_mains

SUPERVISOR = 'supervisor = "systemd-user"\n'


@pytest.fixture(params=["root", pytest.param("user", marks=pytest.mark.full)])
def app(request: pytest.FixtureRequest) -> Iterator[InsideApp]:
    with user_manager(throwaway=request.param == "user") as manager, app_in(manager) as made:
        made.configure(more=SUPERVISOR)
        yield made


def unit(app: InsideApp, release: str | None = None) -> str:
    return f"t-app@{release or app.current()}.service"


def active(app: InsideApp) -> list[str]:
    """The units of its releases that run."""
    listed = app.manager.systemctl("list-units", "--plain", "--no-legend", "--state=active", "t-app@*.service").out
    return [line.split()[0] for line in listed.splitlines()]


def test_push_runs_the_release_as_a_unit(app: InsideApp) -> None:
    result = app.push()
    assert result.event("push.finished")["status"] == "done"
    assert app.get()["release"] == app.current()
    assert active(app) == [unit(app)]
    shown = app.manager.show(unit(app), "KillMode", "TimeoutStopUSec", "NonBlocking", "Restart", "UnitFileState")
    assert shown == {
        "KillMode": "mixed", "TimeoutStopUSec": "11min", "NonBlocking": "yes", "Restart": "on-failure", "UnitFileState": "enabled",
    }  # fmt: skip
    assert app.push().event("push.finished")["status"] == "unchanged"


def test_work_in_flight_is_finished_before_the_new_release_starts(app: InsideApp) -> None:
    app.push()
    old, client = app.get(), app.task(after=1)
    app.release("v2")
    result = app.push()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    drained = result.event("drain.finished")
    assert (drained["verdict"], drained["exit_code"]) == ("clean", 0)
    assert drained["waited_s"] > 0.8
    assert app.get()["release"] == app.current() != old["release"]
    assert active(app) == [unit(app)]
    assert signals_to_mains(app) == {str(old["pid"]): 1}
    # Only the release that serves starts at boot.
    assert app.manager.show(unit(app, old["release"]), "UnitFileState")["UnitFileState"] == "disabled"


def test_user_without_rights_pushes_drains_and_goes_back() -> None:
    with user_manager(throwaway=True) as manager, app_in(manager) as app:
        app.configure(more=SUPERVISOR)
        app.push()
        first, client = app.get(), app.task(after=0.5)
        app.release("v2")
        assert app.push().event("drain.finished")["verdict"] == "clean"
        assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
        app.run("rollback")
        assert app.get()["release"] == first["release"]


def test_release_that_is_not_ready_gives_way_to_the_old_one(app: InsideApp) -> None:
    app.push()
    old = app.get()
    app.configure(
        args=["--health", "never-ready"], health=f'url = "{app.url}/health"\nready_within = "2s"', more=SUPERVISOR
    )
    result = app.push(check=1)
    assert result.event("push.finished")["status"] == "reverted"
    assert (app.get()["release"], app.current()) == (old["release"], old["release"])
    assert active(app) == [unit(app)]
    assert app.manager.show(unit(app), "UnitFileState")["UnitFileState"] == "enabled"
    app.configure(args=[], more=SUPERVISOR)
    app.release("v3")
    assert app.push().event("push.finished")["status"] == "done"


def test_release_that_exits_at_once_gives_way_and_is_not_started_again(app: InsideApp) -> None:
    app.push()
    old = app.get()
    app.configure(run='command = ["sh", "-c", "exit 3"]', more=SUPERVISOR)
    app.release("v2")
    result = app.push(check=1)
    assert result.event("push.finished")["status"] == "reverted"
    assert "code 3" in result.err
    assert app.get()["release"] == old["release"]
    assert len(app.lines("STARTS_FILE")) <= 3


def test_process_that_outlasts_the_ceiling_is_killed_and_named(app: InsideApp) -> None:
    app.configure(drain='ceiling = "1s"', more=SUPERVISOR)
    app.push()
    old, client = app.get(), app.task(100)
    app.release("v2")
    result = app.push(check=5)
    drained = result.event("drain.finished")
    assert drained["verdict"] == "killed" and 0.9 < drained["waited_s"] < 5
    assert drained["lost"] != []
    assert app.get()["release"] == app.current() != old["release"]
    client.communicate(timeout=60)


def test_crash_is_mended_by_systemd_and_told_by_status(app: InsideApp) -> None:
    app.push()
    old = app.get()
    app.manager.run(["kill", "-KILL", str(old["pid"])])
    wait_until(lambda: app.get()["pid"] != old["pid"], what="systemd starts it again")
    facts = app.status()
    assert facts["instance"]["pid"] == app.get()["pid"] and facts["instance"]["unit"] == unit(app)
    assert unit(app) in app.run("status").out
    app.release("v2")
    assert app.push().event("drain.finished")["pid"] == facts["instance"]["pid"]


def test_stop_start_restart_and_rollback(app: InsideApp) -> None:
    app.push()
    first = app.get()
    app.run("restart")
    second = app.get()
    assert (second["release"], second["pid"] != first["pid"]) == (first["release"], True)
    app.release("v2")
    app.push()
    app.run("rollback")
    assert app.get()["release"] == first["release"]
    app.run("stop")
    assert active(app) == [] and app.status()["instance"] is None
    assert app.manager.show(unit(app), "UnitFileState")["UnitFileState"] == "disabled"
    app.run("start")
    assert app.get()["release"] == first["release"]
    assert app.manager.show(unit(app), "UnitFileState")["UnitFileState"] == "enabled"
    counts = signals_to_mains(app)
    assert set(counts.values()) == {1} and len(counts) == 4


def test_reboot_brings_the_current_release_back_without_a_client(app: InsideApp) -> None:
    app.push()
    app.release("v2")
    app.push()
    app.manager.power_cut()
    app.manager.boot()
    wait_until(lambda: app.get()["release"] == app.current(), what="it serves again")
    assert app.status()["instance"]["release"] == app.current()


@pytest.mark.parametrize("way", ["--now", "--extend"])
def test_drain_is_ended_and_lengthened_by_a_person(app: InsideApp, way: str) -> None:
    app.configure(drain='ceiling = "4s"', more=SUPERVISOR)
    app.push()
    client = app.task(after=6 if way == "--extend" else 100)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="it was asked to stop")
    app.run("drain", way, *(["60s"] if way == "--extend" else []))
    _, err = pushing.communicate(timeout=60)
    assert pushing.returncode == (0 if way == "--extend" else 5), err
    assert ('"done"' in client.communicate(timeout=60)[0]) is (way == "--extend")


def test_child_that_outlives_its_wrapper_is_waited_for(app: InsideApp) -> None:
    app.push()
    app.configure(run=wrapped(app), more=SUPERVISOR)
    app.push()
    client = app.task(after=0.5)
    app.configure(more=SUPERVISOR)
    app.release("v3")
    result = app.push()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert result.event("drain.finished")["verdict"] == "clean"
    assert app.get()["release"] == app.current()


def wrapped(app: InsideApp) -> str:
    words = shlex.join([sys.executable, "-S", "service.py", "--port", str(app.port)])
    return f"command = {json.dumps(f'{words}; true')}\n"


def test_logs_are_the_journals_and_a_failed_start_shows_its_own(app: InsideApp) -> None:
    app.configure(args=["--at-start", "echo here I am; sleep 0.3"], more=SUPERVISOR)
    app.push()
    wait_until(lambda: "here I am" in app.run("logs").out, what="the journal has it")
    app.configure(args=["--at-start", "echo broken because; sleep 0.3; kill -9 $PPID; sleep 60"], more=SUPERVISOR)
    app.release("v2")
    result = app.push(check=1)
    assert "broken because" in "".join(result.event("revert.started")["log_tail"])
    app.task(0.1).communicate(timeout=60)
    assert app.get()["release"] == app.current()


def engines(app: InsideApp, role: str) -> list[int]:
    """Pids, as they are called inside, of our engine's processes of this *role*."""
    found = app.manager.run(["pgrep", "-f", f"host/__main__.py {role} {app.host}"], check=False).out
    return [int(pid) for pid in found.split()]


@pytest.mark.parametrize("who", ["both", *(pytest.param(who, marks=pytest.mark.full) for who in ("runner", "keeper"))])
def test_whoever_dies_once_systemd_was_asked_the_new_release_serves(app: InsideApp, who: str) -> None:
    app.push()
    old, client = app.get(), app.task(100)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="it was asked to stop")
    holder = json.loads((app.host / ".deployer" / "lock").read_text())
    victims = [holder["pid"]] if who != "keeper" else []
    victims += engines(app, "keeper") if who != "runner" else []
    assert victims
    app.manager.run(["kill", "-KILL", *map(str, victims)], check=False)
    app.finish()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    wait_until(lambda: app.get()["release"] != old["release"], what="systemd starts the new release")
    pushing.communicate(timeout=60)
    wait_until(lambda: app.status()["under_way"] is None, what="the deploy is brought to its end")
    facts = app.status()
    assert facts["instance"]["release"] == app.current() == app.get()["release"]
    assert signals_to_mains(app) == {str(old["pid"]): 1}


def test_everybody_dies_and_the_service_comes_up_by_systemd_alone(app: InsideApp) -> None:
    app.push()
    old, client = app.get(), app.task(100)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="it was asked to stop")
    # Nobody of ours comes back: the keeper's unit is masked.
    app.manager.systemctl("mask", "--runtime", "t-app-deployer.service")
    holder = json.loads((app.host / ".deployer" / "lock").read_text())
    pushing.kill()
    pushing.communicate()
    app.manager.run(["kill", "-KILL", str(holder["pid"]), *map(str, engines(app, "keeper"))], check=False)
    app.finish()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    new = wait_until(
        lambda: app.get()["release"] != old["release"] and app.get(), what="systemd starts the new release"
    )
    app.manager.systemctl("unmask", "--runtime", "t-app-deployer.service")
    wait_until(lambda: app.status()["under_way"] is None, what="the next command finishes the deploy")
    assert app.get() == {**app.get(), "pid": new["pid"], "release": app.current()}


def test_unit_of_somebody_else_is_moved_to_ours_in_one_step_and_back(app: InsideApp) -> None:
    foreign(app, "TimeoutStopSec=12min")
    app.configure(adopt='unit = "agent.service"', more=SUPERVISOR)
    app.configure(args=["--health", "never-ready"], adopt='unit = "agent.service"', health=slow(app), more=SUPERVISOR)
    app.push(check=1)
    wait_until(lambda: app.manager.show("agent.service", "ActiveState")["ActiveState"] == "active", what="it came back")
    assert active(app) == []
    app.configure(args=[], adopt='unit = "agent.service"', more=SUPERVISOR)
    client = app.task(after=0.5)
    app.release("v2")
    result = app.push()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert result.event("drain.finished")["verdict"] == "clean"
    assert app.get()["release"] == app.current()
    shown = app.manager.show("agent.service", "ActiveState", "UnitFileState")
    assert shown == {"ActiveState": "inactive", "UnitFileState": "disabled"}


def test_unit_of_somebody_else_that_systemd_would_kill_too_early_is_refused(app: InsideApp) -> None:
    foreign(app, "TimeoutStopSec=5")
    app.configure(drain='longest_task = "8m"', adopt='unit = "agent.service"', more=SUPERVISOR)
    result = app.push(check=2)
    assert "TimeoutStopSec of agent.service is 5s" in result.err and "drain.ceiling is 11m" in result.err
    assert app.manager.show("agent.service", "ActiveState")["ActiveState"] == "active"


def slow(app: InsideApp) -> str:
    return f'url = "{app.url}/health"\nready_within = "2s"'


def foreign(app: InsideApp, setting: str) -> None:
    """A unit that somebody wrote before there was a deployer; it serves."""
    text = f"""
        [Service]
        WorkingDirectory={app.dist}
        ExecStart={sys.executable} -S service.py --port {app.port}
        Environment=SIGNALS_FILE={app.root}/signals_file.txt
        {setting}
        [Install]
        WantedBy=default.target
    """
    (app.manager.units / "agent.service").write_text("\n".join(line.strip() for line in text.splitlines()))
    app.manager.systemctl("daemon-reload")
    app.manager.systemctl("enable", "--now", "agent.service")
    wait_until(app.get, what="it serves")


def test_service_moves_from_the_built_in_supervisor_to_systemd_and_back(app: InsideApp) -> None:
    app.configure()
    app.push()
    old, client = app.get(), app.task(after=0.5)
    app.configure(more=SUPERVISOR)
    assert app.push().event("push.finished")["status"] == "done"
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert active(app) == [unit(app)] and app.get()["pid"] != old["pid"]
    client = app.task(after=0.5)
    app.configure()
    app.push()
    assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
    assert active(app) == [] and app.get()["release"] == app.current()
    assert set(signals_to_mains(app).values()) == {1}


def test_plan_shows_what_changes_in_the_unit(app: InsideApp) -> None:
    planned = app.run("plan").out
    assert "+KillMode=mixed" in planned and "+TimeoutStopSec=660s" in planned
    app.push()
    app.configure(run='systemd = { MemoryMax = "1G" }', drain='ceiling = "12m"', more=SUPERVISOR)
    planned = app.run("plan").out
    assert "+MemoryMax=1G" in planned and "-TimeoutStopSec=660s" in planned and "+TimeoutStopSec=720s" in planned
    assert "KillMode" not in planned
    assert "MemoryMax" not in (app.manager.units / unit(app)).read_text()


@pytest.mark.full
def test_names_that_another_service_has_are_refused(app: InsideApp) -> None:
    theirs = app.manager.units / "t-app@1.service"
    theirs.write_text("[Service]\nExecStart=/bin/true\n")
    result = app.push(check=6)
    assert "t-app@1.service" in result.err
    assert theirs.read_text() == "[Service]\nExecStart=/bin/true\n"


@pytest.mark.full
def test_old_releases_take_their_units_along(app: InsideApp) -> None:
    app.configure(more=SUPERVISOR + "keep = 1\n")
    for number in range(4):
        app.release(f"v{number}")
        app.push()
    here = {path.name for path in app.manager.units.glob("t-app@*.service")}
    assert here == {unit(app, path.name) for path in (app.host / "releases").iterdir()}


def test_awkward_values_reach_the_app_and_secrets_stay_in_closed_files(app: InsideApp) -> None:
    values = {"ODD": 'a "quoted" $HOME %h `x` \\ back', "LINES": "one\ntwo", "EMPTY": ""}
    env = ", ".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
    command = json.dumps(
        [sys.executable, "-S", "service.py", "--port", str(app.port), "--version-text", 'it\'s 100% "$5"']
    )
    app.configure(run=f'command = {command}\nenv = {{ {env} }}\nsecrets = ["TOKEN"]', more=SUPERVISOR)
    app.env["TOKEN"] = "s3cret % $x"
    app.push()
    pid = app.manager.outer(int(app.get()["pid"]))
    environ = dict(part.split("=", 1) for part in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in part)
    assert {name: environ.get(name) for name in [*values, "TOKEN"]} == {**values, "TOKEN": "s3cret % $x"}
    assert 'it\'s 100% "$5"' in Path(f"/proc/{pid}/cmdline").read_text()
    assert environ["DEPLOYER_RELEASE"] == app.current()
    for path in app.manager.units.rglob("*.service"):
        assert "s3cret" not in path.read_text()
    kept = app.host / ".deployer" / "units" / f"{unit(app)}.env"
    assert kept.stat().st_mode & 0o777 == 0o600 and "s3cret" not in str(app.manager.journal(unit(app)))


def test_all_of_the_tree_are_signalled_at_once_where_that_was_asked_for(app: InsideApp) -> None:
    app.configure(args=["--spawn", "setsid:1:after"], drain='signal_to = "tree"', more=SUPERVISOR)
    app.push()
    wait_until(lambda: len(app.lines("STARTS_FILE")) >= 2, what="the child has started")
    app.configure(args=[], more=SUPERVISOR)
    app.push()
    heard = [(role, pid) for name, role, pid, *_ in app.lines("SIGNALS_FILE") if name == "SIGTERM"]
    assert len({role for role, _ in heard}) == 2 and len(set(heard)) == len(heard), heard
    assert any(role == "setsid" for role, *_ in [line[1:] for line in app.lines("WORK_FILE")]), "the child was cut off"


def test_app_that_never_says_that_it_is_ready_is_proven_all_the_same(app: InsideApp) -> None:
    app.configure(run='systemd = { Type = "notify" }', more=SUPERVISOR)
    app.push()
    assert app.get()["release"] == app.current()
    # … and lives on: by default systemd would kill it after 90 s.
    assert app.manager.show(unit(app), "TimeoutStartUSec") == {"TimeoutStartUSec": "infinity"}


def test_settings_that_systemd_would_ignore_are_refused_before_anything_is_touched(app: InsideApp) -> None:
    app.push()
    old = app.get()
    app.configure(run='systemd = { MemoryMax = "lots", Nonsense = "x" }', more=SUPERVISOR)
    result = app.push(check=7)
    assert "MemoryMax" in result.err and "Nonsense" in result.err
    assert (app.get()["pid"], app.current()) == (old["pid"], old["release"])
