"""What a process is: pid, start time and boot; never a stranger, whatever its number or name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import wait_until
from deployer.errors import PreflightError
from deployer.host import process
from deployer.host.process import Processes, Stat
from deployer.model import Identity

HERE = Processes()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


def who(pid: int) -> Identity:
    found = HERE.identity(pid)
    assert found is not None
    return found


def line(pid: int, name: str, state: str = "S", threads: int = 1, start: int = 100) -> bytes:
    """A line of /proc/PID/stat as the kernel writes it."""
    return f"{pid} ({name}) {state} 1 {pid} {pid} 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 {start} 0 0\n".encode()


@pytest.mark.parametrize("name", ["sleep", "a b", "a) S 7 (b", "((", "))", "x\ny", ") Z 1 1"])
def test_names_with_spaces_and_brackets_do_not_shift_the_fields(name: str) -> None:
    found = process._parse(7, line(7, name, "R", 3, 4711))
    assert found == Stat(7, 1, 7, 7, "R", 3, 4711, name)


def test_a_real_process_with_an_odd_name_is_read_rightly() -> None:
    code = "import sys; open('/proc/self/comm', 'w').write(') Z 1 (x'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline()
        found = HERE.stat(child.pid)
        assert found is not None and found.name == ") Z 1 (x" and found.ppid == os.getpid() and not found.exited
        child.communicate()


def test_a_reused_pid_is_never_opened_nor_alive(sleeper: subprocess.Popen[bytes]) -> None:
    real = who(sleeper.pid)
    for stranger in (Identity(real.pid, real.start - 1, real.boot), Identity(real.pid, real.start, "another boot")):
        assert HERE.open(stranger) is None
        assert not HERE.alive(stranger)
    assert HERE.alive(real)
    assert sleeper.poll() is None


def test_a_pid_that_changes_hands_while_it_is_opened_is_not_opened(sleeper: subprocess.Popen[bytes]) -> None:
    class Changing(Processes):
        def alive(self, identity: Identity) -> bool:
            return False  # by the time it is compared, the number is another's

    fds = len(os.listdir("/proc/self/fd"))
    assert Changing().open(who(sleeper.pid)) is None
    assert len(os.listdir("/proc/self/fd")) == fds


def test_a_handle_of_one_that_has_gone_signals_nobody() -> None:
    child = subprocess.Popen(["sleep", "60"])
    handle = HERE.open(who(child.pid))
    assert handle is not None and not handle.exited()
    child.kill()
    assert handle.exited(within=5)
    child.wait()
    assert handle.send(signal.SIGTERM) is False
    handle.close()


def test_a_zombie_has_exited() -> None:
    child = subprocess.Popen(["sleep", "0"])
    wait_until(lambda: (found := HERE.stat(child.pid)) and found.state == "Z", what="a zombie")
    stat = HERE.stat(child.pid)
    assert stat is not None and stat.exited
    assert HERE.identity(child.pid) is None
    assert HERE.open(Identity(child.pid, stat.start, HERE.boot)) is None
    child.wait()


LEADER_EXITS = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
sys.stdout.write("ready\\n"); sys.stdout.flush()
ctypes.CDLL(None).syscall({exit}, 0)  # exit, of this thread alone
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of the system call is this machine's")
def test_a_zombie_leader_with_living_threads_has_not_exited() -> None:
    code = LEADER_EXITS.format(exit=60)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdin is not None and child.stdout.readline()
        wait_until(lambda: (found := HERE.stat(child.pid)) and found.state == "Z", what="the leader has gone")
        stat = HERE.stat(child.pid)
        assert stat is not None and stat.threads == 2 and not stat.exited
        handle = HERE.open(who(child.pid))
        assert handle is not None and not handle.exited(within=0.1)
        child.stdin.close()
        assert handle.exited(within=5)
        handle.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_processes_of_others_can_be_followed_and_refuse_signals_without_harm(sleeper: subprocess.Popen[bytes]) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(65534)
            handle = HERE.open(who(sleeper.pid))
            told = [handle is not None, handle and handle.send(signal.SIGTERM), HERE.environ(sleeper.pid)]
            os.write(writer, repr(told).encode())
        finally:
            os.close(writer)
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    assert os.read(reader, 999) == b"[True, False, b'']"
    assert sleeper.poll() is None
    os.close(reader)


class Fleeing(Processes):
    """A table in which every process has started another and exited by the time that its own line is read."""

    def __init__(self, generations: int) -> None:
        super().__init__()
        self.newest, self.last = 100, 100 + generations

    def _pids(self) -> set[int]:
        return {1, self.newest}

    def stat(self, pid: int) -> Stat | None:
        if pid == self.newest and self.newest < self.last:
            self.newest += 1
            return None
        return Stat(pid, 1, pid, pid, "S", 1, pid, "x")


def test_a_process_whose_parent_exits_while_the_table_is_read_is_in_it() -> None:
    assert set(Fleeing(1).table()) == {1, 101}
    assert set(Fleeing(5).table()) == {1, 105}


def test_a_fork_bomb_does_not_keep_the_table_from_being_read() -> None:
    assert set(Fleeing(10**6).table()) == {1}


def test_reading_a_busy_table_never_fails() -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            subprocess.run(["true"], check=True)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(30):
            assert os.getpid() in HERE.table()
    finally:
        stop.set()
        thread.join()


def test_a_host_that_gives_out_no_pidfds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", forbidden)
    with pytest.raises(PreflightError, match="pidfd"):
        process.require_known_platform()


def test_orphans_come_to_a_subreaper() -> None:
    code = (
        "import os, sys, time; from deployer.host.process import become_subreaper; assert become_subreaper()\n"
        "r, w = os.pipe(); pid = os.fork()\n"
        "if pid == 0:\n"
        "    os.fork() or (time.sleep(0.2), os.write(w, str(os.getppid()).encode()), os._exit(0)); os._exit(0)\n"
        "assert os.read(r, 99) == str(os.getpid()).encode()"
    )
    source = str(Path(process.__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, timeout=10, env={**os.environ, "PYTHONPATH": source})
