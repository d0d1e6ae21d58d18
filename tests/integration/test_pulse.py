"""A link that falls silent is noticed on both sides, and one that is merely busy is not given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from facts import OPEN, target

from app import SOURCE, read, wait_until
from conftest import Client
from deployer.errors import DeployerError, LinkError, LockedError
from deployer.link.session import Session
from sshd import Bed, Host

PULSE = {"heartbeat": 0.2, "silent_after": 2.0}
SLACK = 8.0
"""What two shared cores may add."""


@contextmanager
def holding(bed: Bed, client: Client, host: Host) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the deploy lock of *host* for as long as it lives."""
    here = Path(__file__).parent
    env = {**os.environ, **bed.env(), "PYTHONPATH": f"{SOURCE}:{here}"}
    process = subprocess.Popen(
        [sys.executable, str(here / "hold.py"), client.name, host.written, str(PULSE["silent_after"])],
        env=env, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def locked(client: Client, host: Host) -> bool:
    """Whether somebody holds the deploy lock."""
    with client.session(host) as session:
        try:
            session.call("open", deploy="other", target=target(host.written), **OPEN)
            return False
        except LockedError:
            return True


def test_the_agent_of_a_client_that_is_stopped_frees_the_lock(bed: Bed, client: Client) -> None:
    host = bed.host()
    with holding(bed, client, host) as process:
        assert locked(client, host)
        if client.name == "openssh":
            return  # the ssh process goes on by itself: see the next test
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda: not locked(client, host), PULSE["silent_after"] + SLACK, "the lock is free")


def test_the_agent_of_a_link_that_is_stuck_frees_the_lock(bed: Bed, client: Client) -> None:
    host = bed.host()
    with holding(bed, client, host):
        pids = host.freeze()
        try:
            assert wait_until(lambda: not locked(client, host), PULSE["silent_after"] + SLACK, "the lock is free")
        finally:
            host.thaw(pids)


def test_a_killed_client_leaves_nothing(bed: Bed, client: Client) -> None:
    host = bed.host()
    with holding(bed, client, host) as process:
        process.kill()
        wait_until(lambda: not host.sessions(), what="the session has ended")
        assert not locked(client, host)


@pytest.mark.parametrize("sending", [False, True])
def test_a_peer_that_falls_silent_is_a_broken_link(bed: Bed, client: Client, sending: bool) -> None:
    host = bed.host()
    with client.session(host, **PULSE) as session:
        pids = host.freeze()
        started = time.monotonic()
        try:
            with pytest.raises(LinkError) as caught:
                if sending:
                    for _ in range(10_000):
                        session._channel.send(os.urandom(1 << 20))
                else:
                    session.call("hello", path="~/app")
        finally:
            host.thaw(pids)
        assert "silent" in (caught.value.cause or "")
        assert time.monotonic() - started < PULSE["silent_after"] + SLACK


def test_a_link_that_is_cut_is_noticed_at_once(bed: Bed, client: Client) -> None:
    host = bed.host()
    with client.session(host) as session:
        threading.Timer(0.3, host.kill_sessions).start()
        started = time.monotonic()
        with pytest.raises(DeployerError):
            for _ in session.stream("logs", lines=1, follow=True):
                pass
        assert time.monotonic() - started < SLACK


def test_a_client_that_is_busy_keeps_its_link(bed: Bed, client: Client) -> None:
    host = bed.host()
    with client.session(host, **PULSE) as session:
        # As a build does: nobody reads, nobody writes, for longer than a silence may last.
        time.sleep(PULSE["silent_after"] * 2.5)
        assert session.hello("~/app")


def test_an_agent_that_is_busy_keeps_its_link(bed: Bed, client: Client) -> None:
    host = bed.host()
    with holding(bed, Client("paramiko"), host), client.session(host, **PULSE) as session:
        started = time.monotonic()
        with pytest.raises(LockedError):
            asked = {**OPEN, "wait_lock": PULSE["silent_after"] * 2.5}
            session.call_telling(lambda event: None, "open", deploy="waits", target=target(host.written), **asked)
        assert time.monotonic() - started > PULSE["silent_after"]
        assert session.hello("~/app")


def test_a_client_that_was_stopped_for_a_while_goes_on(bed: Bed, client: Client) -> None:
    """Ctrl-Z, or a laptop that slept: the agent may have given us up, but we do not take our own sleep for its silence."""
    host = bed.host()
    code = (
        "import sys, time; from conftest import Client; "
        "s = Client(sys.argv[1]).session(sys.argv[2], heartbeat=0.2, silent_after=60.0 if sys.argv[3] else 1.0); "
        "print('up', flush=True); sys.stdin.readline(); print(bool(s.hello('~/app')), flush=True); s.__exit__()"
    )
    env = {**os.environ, "PYTHONPATH": f"{SOURCE}:{Path(__file__).parent}:{Path(__file__).parent.parent}"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, client.name, host.written, "long"], env=env, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(3)
    os.kill(process.pid, signal.SIGCONT)
    assert process.communicate("\n", timeout=60)[0] == "True\n"


def ended(session: Session) -> float:
    started = time.monotonic()
    session.__exit__()
    return time.monotonic() - started


def test_leaving_a_silent_host_takes_no_time(bed: Bed, client: Client) -> None:
    host = bed.host()
    session = client.session(host)
    pids = host.freeze()
    try:
        assert ended(session) < SLACK
    finally:
        host.thaw(pids)


def test_leaving_ends_the_agent_and_the_ssh_process(bed: Bed, client: Client) -> None:
    host = bed.host()
    session = client.session(host)
    assert host.processes()
    assert ended(session) < SLACK
    wait_until(lambda: not host.sessions(), what="the session has ended")
    mark = os.fsencode(host.address)
    clients = [pid for pid in host.processes() if mark in read(f"/proc/{pid}/cmdline")]
    assert not clients


def test_ctrl_c_in_the_terminal_is_the_clients_alone(bed: Bed) -> None:
    host = bed.host()
    with Client("openssh").session(host):
        mine = os.getpgid(0)
        mark = os.fsencode(host.address)
        found = [  # others of this machine come and go meanwhile: `read` has nothing of what has gone
            int(name) for name in os.listdir("/proc")
            if name.isdigit() and mark in read(f"/proc/{name}/cmdline") and read(f"/proc/{name}/comm") == b"ssh\n"
        ]  # fmt: skip
        assert found and all(os.getpgid(pid) != mine for pid in found)
