"""
The link breaks in the middle of a push: the task in flight finishes, the new release runs, the client hears all of it once.

Cut are the server's sessions (an end), the sessions stopped (silence), the network (silence, and nobody to dial).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app import Result, wait_until
from cut import dark
from fleet import Fleet, make_fleet
from read_ahead import whole
from sshd import Host

LINK = 'heartbeat = "300ms"\nsilent_after = "4s"\nreconnect_within = "60s"\nconnect_timeout = "4s"'
Cut = Callable[[Host, ExitStack], None]


def killed(host: Host, until: ExitStack) -> None:
    host.kill_sessions()


def silent(host: Host, until: ExitStack) -> None:
    until.callback(host.thaw, host.freeze())


def network(host: Host, until: ExitStack) -> None:
    until.enter_context(dark(host.address))


@pytest.fixture
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    with make_fleet(tmp_path, 1) as made:
        made.ssh = f'{LINK}\nclient = "{getattr(request, "param", "paramiko")}"'
        made.configure(ssh=made.ssh)
        made.push()
        made.release("v2")
        yield made


def cut_in(fleet: Fleet, phase: str, cut: Cut, client_too: bool = False) -> Result | None:
    """Push, and cut the link in *phase*; what the client said, or None where it was killed as well."""
    host = fleet.hosts[0]
    task = host.task(100) if phase == "drain" else None
    prepare(fleet, phase)
    client = fleet.start("push", "--json")
    wait_until(lambda: reached(host, phase), what=f"the push is at {phase}")
    with ExitStack() as until:
        cut(host, until)
        if client_too:
            client.kill()
            client.communicate()
        else:
            lost(client)
    if task:
        host.finish()
    return finished(client, task, client_too)


def prepare(fleet: Fleet, phase: str) -> None:
    if phase == "upload":
        with (fleet.dist / "big").open("wb") as file:
            for _ in range(200):  # nothing that could be squeezed
                file.write(os.urandom(1_000_000))
    fleet.configure(
        args=["--boot", "4"] if phase == "start" else None,
        ssh=fleet.ssh,
        install='command = "touch ~/installing; sleep 4"' if phase == "install" else "",
        health=f'url = "http://127.0.0.1:{fleet.port}/health"\ninterval = "50ms"\nready_within = "30s"',
    )


def reached(host: Host, phase: str) -> bool:
    if phase == "upload":
        return any(file.stat().st_size for file in host.path.glob(".deployer/store/incoming/*"))
    if phase == "install":
        return (host.home / "installing").exists()
    if phase == "drain":
        return bool(host.lines("SIGNALS_FILE"))
    return len(host.lines("STARTS_FILE")) > 1


_heard: dict[int, list[str]] = {}


def lost(client: subprocess.Popen[str]) -> None:
    """Until the client has noticed."""
    lines = _heard.setdefault(client.pid, [])
    assert whole(client).stdout is not None
    for line in client.stdout:  # type: ignore[union-attr]
        lines.append(line)
        if '"link.lost"' in line:
            return
    raise AssertionError(f"the client never noticed: {''.join(lines)}\n{client.stderr.read() if client.stderr else ''}")


def finished(client: subprocess.Popen[str], task: subprocess.Popen[str] | None, client_too: bool) -> Result | None:
    if task is not None:
        assert task.wait(60) == 0
        task.communicate()
    if client_too:
        return None
    out, err = client.communicate(timeout=60)
    return Result(client.returncode, "".join(_heard.pop(client.pid, [])) + out, err, 0)


def all_is_well(fleet: Fleet, result: Result, signals: int = 1) -> None:
    host = fleet.hosts[0]
    assert result.code == 0, result.err + result.out
    assert result.event("push.finished")["status"] == "done"
    numbers = [event["seq"] for event in result.events if "seq" in event]
    assert numbers == list(range(1, len(numbers) + 1)), "no event is lost, none is told twice"
    assert {"link.lost", "link.restored"} <= set(result.names())
    assert len(host.lines("SIGNALS_FILE")) == signals
    assert host.get()["release"] == host.current() == result.event("host.finished")["release"]


PHASES = ["upload", "install", "drain", "start"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("cut", [pytest.param(killed, marks=pytest.mark.full), silent], ids=lambda cut: cut.__name__)
def test_cut_link_costs_nothing(fleet: Fleet, phase: str, cut: Cut) -> None:
    result = cut_in(fleet, phase, cut)
    assert result is not None
    all_is_well(fleet, result)


@pytest.mark.full
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fleet", ["openssh"], indirect=True)
@pytest.mark.parametrize(("phase", "cut"), [("upload", silent), ("drain", killed), ("start", silent)])
def test_cut_link_costs_nothing_with_the_other_client(fleet: Fleet, phase: str, cut: Cut) -> None:
    result = cut_in(fleet, phase, cut)
    assert result is not None
    all_is_well(fleet, result)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("phase", ["upload", "drain"])
def test_cut_network_costs_nothing(fleet: Fleet, phase: str) -> None:
    result = cut_in(fleet, phase, network)
    assert result is not None
    all_is_well(fleet, result)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "phase", ["drain", *(pytest.param(phase, marks=pytest.mark.full) for phase in ("install", "start"))]
)
def test_host_ends_right_with_the_client_dead_too(fleet: Fleet, phase: str) -> None:
    host = fleet.hosts[0]
    before = host.current()
    cut_in(fleet, phase, killed, client_too=True)
    attached = fleet.run("attach", "--json", check=0)
    facts = fleet.status()[host.written]
    assert facts["under_way"] is None
    assert facts["instance"]["release"] == host.current() != before
    assert len(host.lines("SIGNALS_FILE")) == 1
    assert attached.code == 0


@pytest.mark.full
@pytest.mark.timeout(180)
def test_client_that_dies_in_the_upload_leaves_no_lock_and_what_came_counts(fleet: Fleet) -> None:
    host = fleet.hosts[0]
    before = host.current()
    cut_in(fleet, "upload", killed, client_too=True)
    assert host.current() == before
    result = fleet.push("--wait-lock", "10s")
    assert result.event("push.finished")["status"] == "done"
    assert host.current() != before


@pytest.mark.timeout(180)
def test_silent_client_frees_the_lock(fleet: Fleet) -> None:
    """A laptop that is closed in the middle of a build: nobody else may have to wait for TCP to give up."""
    fleet.configure(ssh=fleet.ssh, build='command = "touch building; sleep 60"\nartifact = "dist"')
    client = fleet.start("push", "--json")
    wait_until(lambda: (fleet.root / "building").exists(), what="it builds, and has the lock")
    os.kill(client.pid, signal.SIGSTOP)
    try:
        fleet.configure(ssh=fleet.ssh)
        assert fleet.push("--wait-lock", "20s").event("push.finished")["status"] == "done"
    finally:
        os.kill(client.pid, signal.SIGKILL)
        client.communicate()


@pytest.mark.full
@pytest.mark.timeout(180)
def test_link_that_never_comes_back_is_told_truthfully(fleet: Fleet) -> None:
    host = fleet.hosts[0]
    before = host.current()
    fleet.ssh = fleet.ssh.replace('"60s"', '"2s"')
    task = host.task(100)
    prepare(fleet, "drain")
    client = fleet.start("push", "--json")
    wait_until(lambda: reached(host, "drain"), what="the drain")
    with dark(host.address):
        out, err = client.communicate(timeout=60)
    result = Result(client.returncode, out, err, 0)
    assert (result.code, result.event("push.finished")["status"]) == (4, "partial")
    assert result.event("push.finished")["hosts"][0]["status"] == "lost"
    assert "goes on there by itself" in err
    host.finish()
    fleet.run("attach", check=0)
    assert host.current() != before
    assert task.wait(60) == 0
    task.communicate()
