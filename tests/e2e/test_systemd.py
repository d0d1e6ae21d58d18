"""What is systemd's own: units, boot, the journal, one transaction. The main job is in test_supervisor_contract.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import wait_until
from systemd_rig import InsideApp, app_in, user_manager

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


@pytest.mark.full
def test_only_the_release_that_serves_starts_at_boot(app: InsideApp) -> None:
    app.push()
    old = str(app.current())
    app.release("v2")
    app.push()
    assert active(app) == [unit(app)]
    assert [boots(app, old), boots(app)] == ["disabled", "enabled"]
    app.configure(args=["--health", "never-ready"], health=slow(app), more=SUPERVISOR)
    app.push(check=1)
    assert active(app) == [unit(app)] and boots(app) == "enabled"
    app.run("stop")
    assert active(app) == [] and boots(app) == "disabled"
    app.run("start")
    assert boots(app) == "enabled"


def boots(app: InsideApp, release: str | None = None) -> str:
    return app.manager.show(unit(app, release), "UnitFileState")["UnitFileState"]


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


@pytest.mark.full
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


def test_status_names_the_unit(app: InsideApp) -> None:
    app.push()
    assert app.status()["instance"]["unit"] == unit(app)
    assert unit(app) in app.run("status").out


def test_reboot_brings_the_current_release_back_without_a_client(app: InsideApp) -> None:
    app.push()
    app.release("v2")
    app.push()
    app.manager.power_cut()
    app.manager.boot()
    wait_until(lambda: app.get()["release"] == app.current(), what="it serves again")
    assert app.status()["instance"]["release"] == app.current()


def test_logs_are_the_journals_and_a_failed_start_shows_its_own(app: InsideApp) -> None:
    app.configure(args=["--at-start", "say here I am"], more=SUPERVISOR)
    app.push()
    wait_until(lambda: "here I am" in app.run("logs").out, what="the journal has it")
    app.configure(
        args=["--at-start", "say broken because", "--health", "never-ready"], health=slow(app), more=SUPERVISOR
    )
    app.release("v2")
    result = app.push(check=1)
    assert "broken because" in "".join(result.event("revert.started")["log_tail"])
    asked = app.task(100)
    app.finish()
    asked.communicate(timeout=60)
    assert app.get()["release"] == app.current()


def engines(app: InsideApp, role: str) -> list[int]:
    """Pids, as they are called inside, of our engine's processes of this *role*."""
    found = app.manager.run(["pgrep", "-f", f"host/__main__.py {role} {app.host}"], check=False).out
    return [int(pid) for pid in found.split()]


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


@pytest.mark.full
def test_all_of_the_tree_are_signalled_at_once_where_that_was_asked_for(app: InsideApp) -> None:
    app.configure(args=["--spawn", "setsid:1:after"], drain='signal_to = "tree"', more=SUPERVISOR)
    app.push()
    wait_until(lambda: len(app.lines("STARTS_FILE")) >= 2, what="the child has started")
    app.configure(args=[], more=SUPERVISOR)
    app.push()
    heard = [(role, pid) for name, role, pid, *_ in app.lines("SIGNALS_FILE") if name == "SIGTERM"]
    assert len({role for role, _ in heard}) == 2 and len(set(heard)) == len(heard), heard
    assert any(role == "setsid" for role, *_ in [line[1:] for line in app.lines("WORK_FILE")]), "the child was cut off"


@pytest.mark.full
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
