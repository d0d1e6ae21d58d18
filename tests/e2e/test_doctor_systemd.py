"""What `doctor`, `plan` and `enable` say of services that a real `systemd --user` runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from test_systemd import SUPERVISOR, foreign, unit

from app import wait_until
from systemd_rig import InsideApp, app_in, user_manager


@pytest.fixture
def app() -> Iterator[InsideApp]:
    with user_manager() as manager, app_in(manager) as made:
        made.configure(more=SUPERVISOR)
        yield made


def doctor(app: InsideApp) -> dict[str, Any]:
    return app.run("doctor", "--json").event("doctor")


def rung(told: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [rung for rung in told["rungs"] if rung["name"] == name]
    return dict(found)


def test_unit_that_would_be_killed_before_the_ceiling_is_told_with_both_rungs(app: InsideApp) -> None:
    foreign(app, "TimeoutStopSec=5")
    app.configure(drain='longest_task = "8m"', adopt='unit = "agent.service"', more=SUPERVISOR)
    told = doctor(app)
    found = rung(told, "TimeoutStopSec of agent.service")
    assert (found["seconds"], found["ok"], told["exit_code"]) == (5.0, False, 2)
    assert found["fault"] == "TimeoutStopSec of agent.service = 5s does not outlast drain.ceiling = 11m"
    assert "systemctl --user edit agent.service" in found["hint"]
    assert any("KillMode=control-group" in check["detail"] for check in told["checks"] if check["check"] == "unit")
    assert "TimeoutStopSec of agent.service = 5s" in app.run("plan").out + app.run("plan").err


@pytest.mark.full
def test_service_that_its_unit_would_start_again_is_not_taken_by_its_port(app: InsideApp) -> None:
    foreign(app, "Restart=always\nTimeoutStopSec=20min")
    app.configure(adopt=f"port = {app.port}")
    told = doctor(app)
    [check] = [check for check in told["checks"] if check["check"] == "unit" and "Restart=always" in check["detail"]]
    assert check["ok"] is None and 'unit = "agent.service"' in check["hint"]
    assert rung(told, "TimeoutStopSec of agent.service")["ok"] is True


def test_unit_of_a_release_carries_the_ceiling_and_breaks_no_ladder(app: InsideApp) -> None:
    app.push()
    told = doctor(app)
    found = rung(told, f"TimeoutStopSec of {unit(app)}")
    assert (found["seconds"], found["ok"]) == (660.0, True)


@pytest.mark.full
def test_service_of_systemd_is_enabled_by_its_own_units(app: InsideApp) -> None:
    app.push()
    assert "comes up again" in app.run("status").out
    assert app.run("enable", "--json", check=0).event("enable")["hosts"][0]["changed"] is False
    gone = app.run("disable", "--json", check=0).event("disable")["hosts"][0]
    assert (gone["changed"], gone["comes_up"]) == (True, False)
    assert app.manager.show(unit(app), "UnitFileState") == {"UnitFileState": "disabled"}
    assert "stays down" in app.run("status").out
    back = app.run("enable", "--json", check=0).event("enable")["hosts"][0]
    assert (back["way"], back["where"], back["changed"]) == ("systemd-user", unit(app), True)
    app.manager.power_cut()
    app.manager.boot()
    wait_until(lambda: app.get()["status"] == "ok", what="the service is up again")


@pytest.mark.full
def test_service_that_was_systemds_before_is_brought_back_by_the_keeper(app: InsideApp) -> None:
    app.push()
    app.configure(drain='ceiling = "5m"')
    app.release("v2")
    app.push()
    assert app.run("enable", "--json", check=0).event("enable")["hosts"][0]["where"].endswith("t-app-deployer.service")
    assert not (app.host / ".deployer" / "keeper-unit").exists()
    app.manager.power_cut()
    app.manager.boot()
    wait_until(lambda: app.get()["release"] == app.current(), what="the service is up again")
    assert app.manager.show("t-app-deployer.service", "ActiveState", "TimeoutStopUSec") == {
        "ActiveState": "active", "TimeoutStopUSec": "6min",
    }  # fmt: skip
