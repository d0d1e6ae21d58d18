"""What is systemd's own: units, boot, the journal, one transaction. The main job is in test_supervisor_contract.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from app import wait_until
from systemd_rig import InsideApp, app_in, user_manager

SUPERVISOR = 'supervisor = "systemd-user"\n'


@pytest.fixture
def app() -> Iterator[InsideApp]:
    with user_manager() as manager, app_in(manager) as made:
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


def test_reboot_brings_the_current_release_back_without_a_client(app: InsideApp) -> None:
    app.push()
    app.release("v2")
    app.push()
    app.manager.power_cut()
    app.manager.boot()
    wait_until(lambda: app.get()["release"] == app.current(), what="it serves again")
    assert app.status()["instance"]["release"] == app.current()


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
    client = app.task(2)
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
