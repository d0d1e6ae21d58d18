"""Machines with systemd as PID 1, reached over SSH: units of the machine through `sudo -n`, units of the login user, reboots."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import SERVICES, wait_until
from load import Load
from machine import Machine, machine_fleet, make_machine
from overlapping import EXAMPLES

SYSTEM = 'become = "sudo"\nsupervisor = "systemd"'
USER = 'supervisor = "systemd-user"'


@pytest.fixture
def machine() -> Iterator[Machine]:
    with make_machine() as made:
        yield made


def test_push_drain_and_reboot_of_a_unit_of_the_machine(machine: Machine, tmp_path: Path) -> None:
    with machine_fleet(tmp_path, [machine]) as fleet:
        fleet.configure(become=SYSTEM, run='systemd = { User = "deploy", MemoryMax = "200M" }', args=[])
        fleet.push()
        old, client = machine.get(), machine.task(after=1)
        fleet.release("v2")
        result = fleet.push()
        assert '"done"' in client.communicate(timeout=60)[0], "the task was lost"
        assert result.event("drain.finished")["verdict"] == "clean"
        release = machine.current()
        new = machine.get()
        assert new["release"] == release != old["release"]
        unit = f"t-app@{release}.service"
        shown = machine.show(unit, "User", "MemoryMax", "TimeoutStopUSec", "MainPID")
        assert (shown["User"], shown["MemoryMax"], shown["TimeoutStopUSec"]) == ("deploy", str(200 << 20), "11min")
        assert machine.run(["ps", "-o", "user=", "-p", shown["MainPID"]]).out.strip() == "deploy"
        machine.power_cut()
        machine.boot()
        wait_until(lambda: machine.get()["release"] == release, what="it serves again, without a client")
        facts = fleet.status()[machine.written]
        assert (facts["instance"]["release"], facts["under_way"]) == (release, None)
        fleet.release("v3")
        assert fleet.push().event("push.finished")["status"] == "done"


def test_power_cut_in_the_drain_is_finished_after_the_boot(machine: Machine, tmp_path: Path) -> None:
    with machine_fleet(tmp_path, [machine]) as fleet:
        fleet.configure(become=SYSTEM, args=[])
        fleet.push()
        machine.task(600)
        fleet.release("v2")
        pushing = fleet.start("push", "--json")
        wait_until(lambda: machine.lines("SIGNALS_FILE"), what="it was asked to stop")
        machine.power_cut()
        machine.boot()
        pushing.communicate(timeout=120)
        wait_until(lambda: fleet.status()[machine.written]["under_way"] is None, what="the deploy has come to its end")
        assert machine.get()["release"] == machine.current()


def test_user_units_need_lingering(machine: Machine, tmp_path: Path) -> None:
    with machine_fleet(tmp_path, [machine]) as fleet:
        fleet.configure(become=USER, args=[])
        refused = fleet.push(check=6)
        assert "enable-linger" in refused.err
        machine.ssh("loginctl enable-linger")
        fleet.push()
        release = machine.current()
        machine.power_cut()
        machine.boot()
        wait_until(lambda: machine.get()["release"] == release, what="it serves again, without a login")


@pytest.mark.parametrize("pushes", [2, pytest.param(20, marks=pytest.mark.full)])
def test_overlap_through_ssh_and_sudo_loses_nothing(machine: Machine, tmp_path: Path, pushes: int) -> None:
    with machine_fleet(tmp_path, [machine]) as fleet:
        shutil.copy(SERVICES / "overlap_app.py", fleet.dist)
        shutil.copy(EXAMPLES / "lame_duck.py", fleet.dist)
        run = 'command = ["python3", "-S", "overlap_app.py"]\nsocket = "0.0.0.0:3001"\nenv = { LINGER = "0.3" }'
        health = 'url = "http://127.0.0.1:{port}/health"\ninterval = "50ms"'
        fleet.configure(become=SYSTEM, run=run, health=health)
        written = fleet.root / "deploy.toml"
        written.write_text('strategy = "overlap"\n' + written.read_text())
        fleet.push()
        with Load(f"http://{machine.address}:3001", rate=50, kept=4, slow_rate=1, slow_seconds=3) as load:
            for number in range(pushes):
                fleet.release(f"v{number + 2}")
                assert fleet.push().event("host.finished")["gap_ms"] == 0
            figures = load.stop()
        assert figures.lost == 0, figures.losses
        assert len(figures.releases) == pushes + 1
