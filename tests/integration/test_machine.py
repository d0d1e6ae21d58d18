"""The machine of the rig: what the tests of a real host, and of its reboot, stand on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import SOURCE, alive, clean_environment, wait_until
from machine import Machine, machine_fleet, make_machine

TESTS = Path(__file__).parent.parent
UNIT = """
[Service]
ExecStart=/bin/sh -c 'echo hello; exec sleep 1000'
ExecStop=/bin/sh -c 'echo bye; sync'
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    with make_machine() as made:
        yield made


def install(machine: Machine) -> None:
    machine.realm.inside("/etc/systemd/system/hello.service").write_text(UNIT)
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "enable", "--now", "hello.service"])


@pytest.mark.full
def test_what_is_enabled_starts_at_boot_and_the_disk_outlives_power_cuts(machine: Machine) -> None:
    install(machine)
    said = ["hello"]
    wait_until(lambda: said[-1] in machine.journal("hello.service"), what="the journal has the line")
    boot_id = machine.run(["cat", "/proc/sys/kernel/random/boot_id"]).out
    pid = machine.realm.outer(int(machine.show("hello.service", "MainPID")["MainPID"]))
    machine.power_cut()
    assert not alive(pid)
    machine.boot()
    assert machine.show("hello.service", "ActiveState") == {"ActiveState": "active"}
    assert machine.run(["cat", "/proc/sys/kernel/random/boot_id"]).out != boot_id
    assert "bye" not in machine.journal("hello.service")
    machine.power_off()
    machine.boot()
    assert "bye" in machine.journal("hello.service")
    assert machine.run(["systemctl", "--failed", "--plain", "--no-legend"]).out == ""


def test_the_user_logs_in_to_a_session_and_may_use_sudo(machine: Machine) -> None:
    told = machine.ssh(
        "id -un; sudo -n id -un; systemctl --user is-system-running; grep -o 'session-.*' /proc/self/cgroup"
    )
    user, become, manager, session = told.out.split()
    assert (user, become, manager) == ("deploy", "root", "running")
    assert session.endswith(".scope")
    machine.cut()
    with pytest.raises(subprocess.TimeoutExpired):
        machine.ssh("true", timeout=1)
    machine.plug()
    assert machine.ssh("hostname").out.startswith("rig")


@pytest.mark.full
@pytest.mark.parametrize("become", ["", 'become = "sudo"'])
def test_deployer_pushes_to_it_over_ssh(machine: Machine, tmp_path: Path, become: str) -> None:
    with machine_fleet(tmp_path, [machine]) as fleet:
        fleet.configure(become=become, args=[])
        fleet.push()
        assert machine.get()["pid"] == fleet.status()[machine.written]["instance"]["pid"]
        assert len(machine.lines("STARTS_FILE")) == 1
        assert machine.current() is not None


def test_two_machines_at_once_and_nothing_is_left_when_the_test_run_is_killed(tmp_path: Path) -> None:
    code = (
        "import time; from machine import make_machine\n"
        "with make_machine() as m, make_machine(m.bed) as other:\n"
        "    print(*[w for x in (m, other) for w in (x.root, x.realm.cgroup, x.network.file, x.realm.init, x.cable)], flush=True)\n"
        "    time.sleep(600)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        env={**os.environ, **clean_environment(), "PYTHONPATH": f"{TESTS}:{SOURCE}", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    with run:
        assert run.stdout is not None
        words = run.stdout.readline().split()
        run.kill()
    assert len(words) == 10
    for root, cgroup, network, init, cable in (words[:5], words[5:]):
        gone = [Path(root), Path(cgroup), Path(network), Path("/sys/class/net") / cable]
        wait_until(lambda init=init: not alive(int(init)), what="the realm has ended")
        wait_until(lambda gone=gone: not any(each.exists() for each in gone), what=f"nothing is left of {gone}")
