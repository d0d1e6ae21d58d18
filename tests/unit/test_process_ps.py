"""Processes by `ps`, as on macOS: recorded outputs, and the real thing on Linux, where a drain must come out the same."""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_host_supervise import STAY, Host, OfOneTest, end

from app import alive, wait_until
from deployer.errors import DeployerError
from deployer.host import ports_lsof, process_ps
from deployer.host.clock import Clock
from deployer.host.process import Stat
from deployer.host.process_darwin import parse_procargs
from deployer.host.process_ps import PolledHandle, PsProcesses, parse
from deployer.host.state import State
from deployer.host.supervise import Core
from deployer.model import DrainOrder, Identity

# ps -ax -ww -o pid=,ppid=,pgid=,stat=,lstart=,comm= in the form of macOS (its widths, its states, programs by their whole path)
MACOS = """\
    1     0     1 Ss   Sat Nov 21 20:08:11 2026     /sbin/launchd
  341     1   341 Ss   Sat Nov 21 20:08:19 2026     /System/Library/CoreServices/Software Update.app/Contents/MacOS/su
 8812     1  8812 S    Sun Nov 22 09:05:01 2026     /usr/local/bin/node
 8813  8812  8812 R+   Sun Nov 22 09:05:02 2026     /bin/sh
 8820  8812  8812 Z    Sun Nov 22 09:05:03 2026     (sh)
 8821  8812  8812 U    Sun Nov  1 09:05:03 2026     /usr/bin/python3
"""


def test_table_of_a_mac_is_read() -> None:
    found = parse(MACOS, session_of=lambda pid: pid)
    assert sorted(found) == [1, 341, 8812, 8813, 8820, 8821]
    assert found[8813][:5] == (8813, 8812, 8812, 8813, "R")
    assert found[8812].start == 1795338301 and found[8821].start == 1793523903
    assert found[8812].name == "node" and found[341].name == "su"
    assert [pid for pid, stat in found.items() if stat.exited] == [8820]


def test_what_a_process_was_started_with_is_read_word_by_word() -> None:
    words = [b"node", b"api.js", b"", b"two words", b"A=1 2", b"DEPLOYER_INSTANCE=one", b"", b"ptr_munge="]
    raw = struct.pack("=i", 4) + b"/usr/local/bin/node\0\0\0\0\0\0" + b"\0".join(words) + b"\0"
    assert parse_procargs(raw) == (["node", "api.js", "", "two words"], b"A=1 2\0DEPLOYER_INSTANCE=one")
    assert parse_procargs(b"") is None


def test_listeners_of_lsof_are_read() -> None:
    recorded = "p8812\nf18\nd0x7b1e5c3a91f2d4e7\nn*:3001\nf19\nd0x7b1e5c3a91f2d4ff\nn[::1]:3002\np9001\nf4\nd0x1\nn127.0.0.1:80\n"
    found = ports_lsof.parse(recorded)
    assert [(one.pid, one.fd, one.host, one.port) for one in found] == [
        (8812, 18, "0.0.0.0", 3001), (8812, 19, "::1", 3002), (9001, 4, "127.0.0.1", 80),
    ]  # fmt: skip
    assert found[0].device == 0x7B1E5C3A91F2D4E7


GOES = "import os, signal, sys, time; signal.signal(15, lambda *_: (os.write(1, b'heard\\n'), sys.exit())); "
GOES += "os.write(1, b'up\\n'); [time.sleep(0.05) for _ in range(2000)]"


class LinuxByPs(PsProcesses):
    """
    What a Mac's table would be here: all by `ps`, but for what a process was started with, and when: Linux' ps counts that back
    from the clock, and on a busy machine comes out a second away. A Mac has it written down.
    """

    def __init__(self, run: str) -> None:
        super().__init__("this boot")
        self._linux = OfOneTest(run)

    def arguments(self, pid: int) -> tuple[list[str], bytes] | None:
        return self._linux.argv(pid), self._linux.environ(pid)

    def _read(self, *which: str) -> dict[int, Stat]:
        both = {pid: (stat, self._linux.stat(pid)) for pid, stat in super()._read(*which).items()}
        return {pid: stat._replace(start=other.start) for pid, (stat, other) in both.items() if other is not None}


class Kqueue:
    """select.kqueue over a pidfd: readable when the one process has exited that was asked about."""

    fd = -1

    def control(self, events: list[int], _: int) -> None:
        self.fd = os.pidfd_open(events[0])

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


@pytest.fixture(params=["looked up", "told by kqueue"])
def processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LinuxByPs:
    if request.param == "told by kqueue":
        names = {
            "kqueue": Kqueue,
            "kevent": lambda pid, **_: pid,
            "KQ_FILTER_PROC": 0,
            "KQ_EV_ADD": 0,
            "KQ_NOTE_EXIT": 0,
        }
        for name, value in names.items():
            monkeypatch.setattr(select, name, value, raising=False)
    return LinuxByPs(str(tmp_path))


class PsHost(Host):
    processes: LinuxByPs

    def keeper(self) -> Core:
        core = Core(
            self.paths,
            State(self.paths.state),
            self.processes,
            Clock(),
            {"TEST_RUN": str(self.paths.root)},
            self.said.append,
        )
        core.recover()
        return core


@pytest.fixture
def host(tmp_path: Path, processes: LinuxByPs) -> Iterator[PsHost]:
    made = PsHost(tmp_path)
    made.processes = processes
    yield made
    for row in made.state.rows("SELECT pid FROM instances WHERE pid IS NOT NULL"):
        made.pids.add(row["pid"])
    for pid in made.pids:
        end(pid)


def verdict(host: Host, name: str) -> Any:
    row = host.state.row("SELECT verdict FROM drains WHERE instance=?", name)
    return row["verdict"] if row else None


def drained(core: Core, host: Host, name: str) -> str:
    def settle() -> str | None:
        core.reap()
        core.advance()
        found: str | None = verdict(host, name)
        return found

    return str(wait_until(settle, what=f"{name} has drained"))


def test_handle_waits_for_the_exit_and_never_signals_somebody_else(processes: LinuxByPs) -> None:
    while (left := processes.exited_child()) is not None:  # by the tests before
        processes.bury(left)
    with subprocess.Popen(["sleep", "600"]) as child:
        identity = processes.identity(child.pid)
        assert identity is not None and processes.alive(identity)
        other = Identity(identity.pid, identity.start - 5, identity.boot)
        assert not processes.alive(other) and processes.open(other) is None
        assert not PolledHandle(other, processes).send(signal.SIGKILL)
        handle = processes.open(identity)
        assert handle is not None and not handle.exited()
        assert alive(child.pid)
        assert handle.send(signal.SIGTERM) and handle.exited(30)
        # A zombie has exited.
        assert processes.identity(child.pid) is None and not handle.send(signal.SIGTERM)
        assert processes.exited_child() == child.pid
        handle.close()


def test_drain_sends_one_signal_and_ends_clean(host: PsHost) -> None:
    core = host.start("a", GOES)
    wait_until(lambda: host.log() == ["up"], what="it is up")
    core.replace("d2", "me", None, DrainOrder(ceiling=60))
    assert '"verdict": "clean", "exit_code": 0' in drained(core, host, "a")
    assert host.log() == ["up", "heard"]
    assert core.next_deadline() is None and core.idle()


def test_what_does_not_tell_its_exit_is_looked_at_again_soon(host: PsHost, processes: LinuxByPs) -> None:
    core = host.start("a", STAY)
    due = core.next_deadline()
    if core.watched():
        assert due is None
    else:
        assert due is not None and due <= Clock().now() + 1


def test_second_keeper_sends_no_second_signal_and_forces_at_the_ceiling(host: PsHost) -> None:
    host.start("a", STAY)
    wait_until(lambda: host.log() == ["up"], what="it is up")
    first = host.keeper()
    first.replace("d2", "me", None, DrainOrder(ceiling=2))
    first.advance()
    wait_until(lambda: "heard" in host.log(), what="it has got its signal")
    assert '"verdict": "killed"' in drained(host.keeper(), host, "a")
    assert host.log().count("heard") == 1


def test_child_that_outlives_its_wrapper_is_waited_for(host: PsHost, tmp_path: Path) -> None:
    done = tmp_path / "done"
    child = f"import signal, time, pathlib; signal.signal(15, signal.SIG_IGN); time.sleep(1.5); pathlib.Path({str(done)!r}).touch()"
    code = f"import subprocess, sys, os, time; subprocess.Popen([sys.executable, '-S', '-c', {child!r}], start_new_session=True); "
    code += "os.write(1, b'up\\n'); time.sleep(600)"
    core = host.start("a", code)
    wait_until(lambda: host.log() == ["up"], what="it is up")
    core.replace("d2", "me", None, DrainOrder(ceiling=60))
    assert '"verdict": "clean"' in drained(core, host, "a") and done.exists()


def test_table_that_cannot_be_read_is_an_error_and_no_mass_exit(
    host: PsHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    core = host.start("a", STAY)
    broken = tmp_path / "ps"
    broken.write_text("#!/bin/sh\necho 'ps: cannot fork' >&2\nexit 1\n")
    broken.chmod(0o755)
    real = subprocess.Popen

    def popen(argv: list[str], **more: Any) -> Any:
        return real([str(broken), *argv[1:]], **more)

    monkeypatch.setattr(process_ps.subprocess, "Popen", popen)
    with pytest.raises(DeployerError, match="process table"):
        core.instances["a"].members()
    monkeypatch.undo()
    assert host.row("a")["state"] == "running"


WITHOUT_LINUX = """
import importlib, os, pkgutil, select, signal, socket, subprocess, sys, time
from pathlib import Path
gone = [(os, "pidfd_open"), (os, "pipe2"), (os, "waitid"), (signal, "pidfd_send_signal"), (select, "epoll"),
        (socket, "SO_PASSCRED"), (socket, "SCM_CREDENTIALS"), (socket, "SOCK_NONBLOCK"), (time, "CLOCK_BOOTTIME")]
for module, name in gone:
    if hasattr(module, name):
        delattr(module, name)
spawned = os.posix_spawn
def posix_spawn(*args, setsid=False, **more):
    if setsid:
        raise NotImplementedError
    return spawned(*args, **more)
os.posix_spawn = posix_spawn
sys.platform = "darwin"
import deployer.host
for found in pkgutil.walk_packages(deployer.host.__path__, "deployer.host."):
    if not found.name.endswith(("__main__", "loader")):
        importlib.import_module(found.name)
from deployer.host import detached, process, process_darwin, process_ps
from deployer.host.clock import Clock
from deployer.host.paths import HostPaths
from deployer.host.state import State
from deployer.host.supervise import Core
from deployer.host.control import Control
from deployer.model import DrainOrder, Spec
def arguments(pid):
    argv, env = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    count = len(argv.rstrip(b"\\0").split(b"\\0")).to_bytes(4, sys.byteorder)
    return count + b"/x\\0" + argv + env
def procargs(pid):
    try:
        return arguments(pid)
    except OSError:
        return None
process_darwin._procargs = procargs
def started(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None  # it has gone since it was printed
process_ps.parse = lambda printed, read=process_ps.parse: {
    pid: stat._replace(start=start) for pid, stat in read(printed).items() if (start := started(pid)) is not None
}
process_darwin.boot_session = lambda: "5E1B6D5A-0000-4000-8000-000000000000"
process.require_known_platform()
paths = HostPaths(Path(sys.argv[1]))
paths.prepare_private()
state = State(paths.state)
core = Core(paths, state, process.here(), Clock(), {"PATH": os.defpath}, print)
core.recover()
core.replace("d1", "me", Spec(f"a{os.getpid()}", "r-a", "app", ("sleep", "600"), sys.argv[1]), DrainOrder(), True)
core.advance()
row = state.row("SELECT * FROM instances WHERE id LIKE 'a%'")
assert row["state"] == "running", dict(row)
core.replace("d2", "me", None, DrainOrder(ceiling=30))
deadline = time.monotonic() + 30
while core.instances and time.monotonic() < deadline:
    core.reap()
    core.advance()
    time.sleep(0.05)
assert '"clean"' in state.row("SELECT verdict FROM drains")["verdict"]
Control().fileno()
pid = detached.start_detached([sys.executable, "-S", "-c", "import os, sys; sys.exit(os.getsid(0) != os.getpid())"], {}, paths)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print("all of it")
"""


def test_engine_runs_without_what_linux_alone_has(tmp_path: Path) -> None:
    source = Path(process_ps.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-S", "-c", WITHOUT_LINUX, str(tmp_path)], capture_output=True, text=True, timeout=120,
        env={"PYTHONPATH": str(source), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all of it"
