"""
What a process *is*: pid, start time and boot; its exit; a handle that can never signal a stranger.

Linux. The process table is read by hand from /proc: 570 processes in about 4 ms, where `ps` takes 22. Elsewhere `here`
gives another kind (process_ps.py).
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import AbstractSet, Callable, Dict, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from deployer.errors import PreflightError
from deployer.host import logs
from deployer.host.spawn import spawn
from deployer.model import Identity, Spec

LOOKS = 20
"""How often the list of processes is read again for those that started meanwhile: any chain but a fork bomb ends."""


class Stat(NamedTuple):
    """One line of the process table; `start` is in kernel ticks since boot."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    state: str
    threads: int
    start: int
    name: str

    @property
    def exited(self) -> bool:
        """A zombie has exited, unless other threads of it still run behind a dead main thread."""
        return self.state in "ZXx" and self.threads <= 1


class Handle:
    """
    A pidfd: readable once the process has exited, and never anybody else's.

    `fileno()` may be polled. Works for processes that are not our children.
    """

    tells = True
    """Whether its descriptor says when the process has exited; else it must be looked up."""

    def __init__(self, identity: Identity, fd: int) -> None:
        self.identity = identity
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def send(self, signum: int) -> bool:
        """Whether the signal went out; False when the process has gone, or is somebody's whom we may not signal."""
        try:
            signal.pidfd_send_signal(self._fd, signum)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def exited(self, within: float = 0.0) -> bool:
        """Whether the process has exited, waiting up to *within* seconds for it."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return bool(poller.poll(within * 1000))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Processes:
    """The process table of this machine, and our own children in it. The seam behind which a simulation may stand."""

    _proc = "/proc"

    def __init__(self, proc: str = _proc) -> None:
        self._proc = proc
        self.boot = _read(f"{proc}/sys/kernel/random/boot_id").decode("ascii").strip()

    def stat(self, pid: int) -> Optional[Stat]:
        """The table's line for *pid*, or None when there is no such process."""
        try:
            return _parse(pid, _read(f"{self._proc}/{pid}/stat"))
        except (OSError, ValueError, IndexError):
            return None

    def table(self, skip: AbstractSet[int] = frozenset()) -> Dict[int, Stat]:
        """
        Every process but those in *skip*, zombies included, by pid; also one whose parent started it and exited while we looked.
        """
        found: Dict[int, Stat] = {}
        seen: Set[int] = set(skip)
        for _ in range(LOOKS):
            new = self._pids() - seen
            if not new:
                break
            seen |= new
            found.update((stat.pid, stat) for stat in map(self.stat, sorted(new)) if stat is not None)
        return found

    def _pids(self) -> Set[int]:
        return {int(name) for name in os.listdir(self._proc) if name.isdigit()}

    def last_pid(self) -> Optional[int]:
        """The number that was given out last, in this namespace; None where the kernel does not say."""
        try:
            return int(_read(f"{self._proc}/sys/kernel/ns_last_pid"))
        except (OSError, ValueError):
            return None

    def identity(self, pid: int) -> Optional[Identity]:
        """Who *pid* is now, or None when it has exited."""
        stat = self.stat(pid)
        return None if stat is None or stat.exited else Identity(pid, stat.start, self.boot)

    def alive(self, identity: Identity) -> bool:
        """Whether exactly this process still runs: a reused pid or another boot is somebody else."""
        return identity.boot == self.boot and self.identity(identity.pid) == identity

    def open(self, identity: Identity) -> Optional[Handle]:
        """A handle on exactly this process; None when it has exited."""
        try:
            fd = os.pidfd_open(identity.pid)
        except OSError:
            return None
        # Opened first, compared second: the other way round, the pid could change hands in between.
        if self.alive(identity):
            return Handle(identity, fd)
        os.close(fd)
        return None

    def child(self, pid: int) -> Optional[Handle]:
        """A handle on *pid*, which is our child and not buried yet; None when it has exited."""
        identity = self.identity(pid)
        return None if identity is None else self.open(identity)

    def started(self, pid: int) -> float:
        """When *pid* was started, in seconds since 1970; long ago where that is not known."""
        stat = self.stat(pid)
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.time() - uptime + (stat.start if stat else 0) / os.sysconf("SC_CLK_TCK")

    def cwd(self, pid: int) -> str:
        """Where *pid* works; empty when that may not be seen."""
        try:
            return os.readlink(f"{self._proc}/{pid}/cwd")
        except OSError:
            return ""

    def environ(self, pid: int) -> bytes:
        """The environment that *pid* was started with; empty when it may not be read."""
        try:
            return _read(f"{self._proc}/{pid}/environ")
        except OSError:
            return b""

    def argv(self, pid: int) -> list[str]:
        """The command line of *pid*, or its name in brackets where it has none."""
        try:
            raw = _read(f"{self._proc}/{pid}/cmdline")
        except OSError:
            raw = b""
        if raw.strip(b"\0"):
            return [os.fsdecode(part) for part in raw.rstrip(b"\0").split(b"\0")]
        stat = self.stat(pid)
        return [f"[{stat.name}]"] if stat else []

    def command(self, pid: int, width: int = 160) -> str:
        """The command line of *pid* for a person, cut to *width*."""
        text = " ".join(self.argv(pid)) or "?"
        return text if len(text) <= width else text[: width - 1] + "…"

    def catches(self, pid: int, signum: int) -> Optional[bool]:
        """Whether *pid* has a handler for the signal (or ignores it) instead of dying of it; None when it cannot be seen."""
        try:
            lines = _read(f"{self._proc}/{pid}/status").split(b"\n")
        except OSError:
            return None
        masks = [int(line.split()[1], 16) for line in lines if line.startswith((b"SigCgt:", b"SigIgn:"))]
        return any(mask >> (signum - 1) & 1 for mask in masks) if masks else None

    def heard(self, pids: Sequence[int], signum: int) -> bool:
        """Whether any of *pids* would do something else than die of the signal; True where that cannot be seen."""
        return not pids or any(self.catches(pid, signum) is not False for pid in pids)

    def owner(self, pid: int) -> Optional[tuple[int, int]]:
        """(uid, gid) that *pid* runs as."""
        try:
            status = os.stat(f"{self._proc}/{pid}")
        except OSError:
            return None
        return status.st_uid, status.st_gid

    # Our own children ------------------------------------------------------------------------------------------------

    def own_pid(self) -> int:
        return os.getpid()

    def exited_child(self) -> Optional[int]:
        """A child of ours, or an orphan that came to us, that has exited and waits to be buried; None when there is none."""
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        return None if found is None else found.si_pid

    def bury(self, pid: int) -> Optional[int]:
        """The exit code of our child *pid*, whose number is free from now on; None while it runs. Raises ChildProcessError."""
        buried, status = os.waitpid(pid, os.WNOHANG)
        return code_of(status) if buried else None

    def start(
        self,
        spec: Spec,
        env: Mapping[str, str],
        log: Path,
        sockets: Sequence[Tuple[str, int]],
        announce: Callable[[int, int], None],
    ) -> None:
        """
        Start *spec* as a child of ours, its output appended to *log*; see `spawn`.

        *announce* is told the pid, and at which byte of *log* its output begins, before anything is executed.
        """
        output = logs.open_output(log)
        try:
            offset = os.fstat(output).st_size
            spawn(spec.argv, spec.cwd, env, output, sockets, spec.user, lambda pid: announce(pid, offset))
        finally:
            os.close(output)


def code_of(status: int) -> int:
    """A wait status as an exit code; negative for a death by signal."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def here() -> Processes:
    """The process table of this machine, whatever it runs."""
    if sys.platform == "darwin":
        from deployer.host.process_darwin import DarwinProcesses

        return DarwinProcesses()
    return Processes()


def require_known_platform() -> None:
    """Raises PreflightError on a system whose process table we cannot read."""
    if sys.platform == "darwin":
        return
    if not sys.platform.startswith("linux"):
        raise PreflightError(
            f"this host runs {sys.platform}, which deployer cannot supervise",
            cause="processes are followed through Linux pidfds, or kqueue on macOS",
            state="nothing was changed",
        )
    if not hasattr(os, "pidfd_open"):
        raise PreflightError(
            "this host's Python has no pidfd_open", hint="use Python 3.9 or newer on Linux 5.3 or newer"
        )
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:  # without them, every process would look as if it had exited
        raise PreflightError(
            "this host's kernel gives out no pidfds",
            cause=str(error),
            state="nothing was changed",
            hint="use Linux 5.3 or newer; in a container, one whose seccomp profile allows pidfd_open",
        ) from error


def become_subreaper() -> bool:
    """Make orphans of our children come to us instead of to PID 1, so that none escapes unseen. False where unknown."""
    import ctypes

    set_child_subreaper = 36  # linux/prctl.h
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(set_child_subreaper, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _parse(pid: int, raw: bytes) -> Stat:
    # The name may hold spaces and brackets: everything after the *last* bracket is fixed.
    opening, closing = raw.index(b"("), raw.rindex(b")")
    rest = raw[closing + 2 :].split()
    return Stat(
        pid=pid,
        ppid=int(rest[1]),
        pgid=int(rest[2]),
        sid=int(rest[3]),
        state=rest[0].decode("ascii"),
        threads=int(rest[17]),
        start=int(rest[19]),
        name=os.fsdecode(raw[opening + 1 : closing]),
    )


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks: list[bytes] = []
        while True:
            chunk = os.read(fd, 65536)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
    finally:
        os.close(fd)
