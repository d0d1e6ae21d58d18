"""`deployer enable` with a real systemd: after a power cut the service comes up again, and nobody had to ask."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import alive, wait_until
from systemd_rig import InsideApp, UserManager, app_in, user_manager

UNIT = "t-app-deployer.service"


@pytest.fixture(params=["throwaway", pytest.param("root", marks=pytest.mark.full)])
def manager(request: pytest.FixtureRequest) -> Iterator[UserManager]:
    with user_manager(throwaway=request.param == "throwaway") as made:
        yield made


@pytest.fixture
def app(manager: UserManager, tmp_path: Path) -> Iterator[InsideApp]:
    with app_in(manager, tmp_path if manager.user == "root" else None) as made:
        yield made


def serves(app: InsideApp, release: str | None = None) -> bool:
    return app.get()["status"] == "ok" and release in (None, app.get()["release"])


def under_way(app: InsideApp) -> bool:
    """By `doctor`, which only looks: `status` would bring it to its end itself."""
    return any(check["check"] == "deploy" for check in app.run("doctor", "--json").event("doctor")["checks"])


def test_enabled_service_comes_up_after_a_power_cut_on_its_current_release(
    app: InsideApp, manager: UserManager
) -> None:
    app.push()
    before = app.run("doctor", "--json").event("doctor")["checks"]
    assert [check["ok"] for check in before if check["check"] == "reboot"] == [None]
    said = app.run("enable", "--json", check=0).event("enable")["hosts"][0]
    assert (said["way"], said["comes_up"], said["changed"]) == ("systemd-user", True, True)
    assert app.run("enable", "--json", check=0).event("enable")["hosts"][0]["changed"] is False
    assert "comes up again" in app.run("status", check=0).out
    release, pid = app.current(), manager.outer(app.get()["pid"])
    manager.power_cut()
    assert not alive(pid)
    manager.boot()
    wait_until(lambda: serves(app, release), what="the service is up again, and nobody asked for it")
    shown = app.run("doctor", "--json", check=0).event("doctor")
    # It now lives in the unit, whose own patience is a rung.
    assert {rung["name"]: rung["seconds"] for rung in shown["rungs"]}[f"TimeoutStopSec of {UNIT}"] == 720.0


@pytest.mark.full
def test_orderly_shutdown_lets_the_app_finish_and_starts_nothing_again(app: InsideApp, manager: UserManager) -> None:
    app.push()
    app.run("enable", check=0)
    manager.power_cut()
    manager.boot()
    wait_until(lambda: serves(app), what="the service is up again")
    starts = len(app.lines("STARTS_FILE"))
    client = app.task(after=0.5)
    stopping = manager.popen(["systemctl", "--user", "stop", UNIT], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert "done" in client.communicate(timeout=60)[0]
    assert stopping.wait(60) == 0
    assert len(app.lines("SIGNALS_FILE")) == 1
    assert len(app.lines("STARTS_FILE")) == starts
    manager.systemctl("start", UNIT)
    wait_until(lambda: serves(app), what="the service has been started again by its unit")


@pytest.mark.full
def test_stop_of_the_unit_lets_its_own_keeper_go_before_the_app_and_no_other(
    app: InsideApp, manager: UserManager
) -> None:
    stop = ["sh", str(app.host / ".deployer" / "boot"), "stop"]
    app.push()
    app.run("enable", check=0)
    keeper = manager.outer(app.status()["keeper"]["pid"])
    manager.run(stop)
    assert alive(keeper), "it was started by a push, and is not the unit's"
    manager.power_cut()
    manager.boot()
    wait_until(lambda: serves(app), what="the service is up again")
    keeper, service = (manager.outer(pid) for pid in (app.status()["keeper"]["pid"], app.get()["pid"]))
    manager.run(stop)
    wait_until(lambda: not alive(keeper), what="the keeper has gone")
    assert alive(service)
    assert not app.lines("SIGNALS_FILE")


@pytest.mark.full
def test_disabled_service_stays_down_and_a_foreign_unit_is_not_touched(app: InsideApp, manager: UserManager) -> None:
    app.push()
    app.run("enable", check=0)
    assert app.run("disable", "--json", check=0).event("disable")["hosts"][0]["changed"] is True
    assert app.run("disable", "--json", check=0).event("disable")["hosts"][0]["changed"] is False
    assert not list(manager.units.rglob(UNIT)) and not (app.host / ".deployer" / "boot").exists()
    theirs = manager.units / UNIT
    theirs.write_text("[Service]\nExecStart=/bin/true\n")
    refused = app.run("enable", check=6)
    assert "is not of this service" in refused.err and "has no mark" in refused.err
    app.run("disable", check=0)
    assert theirs.read_text() == "[Service]\nExecStart=/bin/true\n"


@pytest.mark.full
def test_service_interrupted_in_the_middle_of_a_push_is_brought_to_an_end_at_boot(
    app: InsideApp, manager: UserManager
) -> None:
    app.push()
    app.run("enable", check=0)
    client = app.task(after=60)
    app.release("v2")
    push = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="the old process has been asked to stop")
    push.terminate()  # the runner goes on; and a namespace ends only when those have gone whom somebody outside waits for
    push.communicate(timeout=60)
    manager.power_cut()
    client.communicate(timeout=60)
    manager.boot()
    wait_until(lambda: serves(app), what="the service is up again")
    wait_until(lambda: not under_way(app), what="the interrupted deploy has come to its end")


def test_user_without_lingering_is_told_that_the_service_would_stay_down() -> None:
    with user_manager(throwaway=True, linger=False) as manager, app_in(manager) as app:
        app.push()
        refused = app.run("enable", check=6)
        assert f"loginctl enable-linger {manager.user}" in refused.err
        assert "is installed" in refused.err
        assert "lingering is off" in app.run("status").out
