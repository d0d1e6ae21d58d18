"""`deployer enable` over SSH on a machine with systemd as PID 1: its reboots bring the service back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app import wait_until
from fleet import Fleet
from machine import Machine, machine_fleet, make_machine

UNIT = "t-app-deployer.service"


@pytest.fixture
def machine() -> Iterator[Machine]:
    with make_machine() as made:
        yield made


@pytest.fixture
def fleet(tmp_path: Path, machine: Machine) -> Iterator[Fleet]:
    with machine_fleet(tmp_path, [machine]) as made:
        yield made


def test_system_unit_of_root_brings_the_service_back_and_lets_it_finish(machine: Machine, fleet: Fleet) -> None:
    fleet.configure(become='become = "sudo"')
    fleet.push()
    done = fleet.run("enable", "--json", check=0).event("enable")["hosts"][0]
    assert (done["way"], done["where"]) == ("systemd", f"/etc/systemd/system/{UNIT}")
    machine.run(["systemd-analyze", "verify", UNIT])
    machine.power_cut()
    machine.boot()
    wait_until(lambda: machine.get()["status"] == "ok", what="the service is up after a power cut")
    signals = len(machine.lines("SIGNALS_FILE"))
    machine.power_off()
    machine.boot()
    wait_until(lambda: machine.get()["status"] == "ok", what="the service is up after an orderly reboot")
    assert len(machine.lines("SIGNALS_FILE")) == signals + 1
    fleet.run("disable", check=0)
    machine.power_cut()
    machine.boot()
    assert machine.show(UNIT, "LoadState") == {"LoadState": "not-found"}


@pytest.mark.full
def test_user_who_logs_in_is_told_to_linger_and_then_the_service_comes_back(machine: Machine, fleet: Fleet) -> None:
    fleet.configure()
    machine.run(["loginctl", "disable-linger", "deploy"], check=False)
    fleet.push()
    refused = fleet.run("enable", check=6)
    assert "loginctl enable-linger deploy" in refused.err
    machine.run(["loginctl", "enable-linger", "deploy"])
    assert fleet.run("enable", "--json", check=0).event("enable")["hosts"][0]["way"] == "systemd-user"
    machine.power_cut()
    machine.boot()
    wait_until(lambda: machine.get()["status"] == "ok", what="the service is up, and nobody has logged in")
