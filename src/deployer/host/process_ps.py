"""
The process table where there is no /proc: read by `ps`, exits told by kqueue, or looked up where there is none either.

A pid is no handle: between the look that finds the right process and the signal, it could end and its number be given to
somebody else. Numbers go up to 99,998 in turn on macOS before one comes again, and of our own children none is free before we
bury it. So that takes a hundred thousand starts in microseconds; it cannot be ruled out, as it is on Linux.
"""

from __future__ import annotations

import calendar
import os
import select
import subprocess
import time
from typing import AbstractSet, Any, Callable, Dict, List, Optional, Tuple

from deployer.errors import DeployerError
from deployer.host.process import Handle, Processes, Stat
from deployer.model import Identity

COLUMNS = "pid=,ppid=,pgid=,stat=,lstart=,comm="
ANSWER_WITHIN = 15.0
LOOK_EVERY = 0.1
"""Seconds between two looks at a process whose exit nobody tells."""


class PolledHandle(Handle):
    """A process known by pid and start time; nothing can be waited for, only looked up."""

    tells = False

    def __init__(self, identity: Identity, processes: Processes, fd: int = -1) -> None:
        super().__init__(identity, fd)
        self._processes = processes

    def send(self, signum: int) -> bool:
        if not self._processes.alive(self.identity):
            return False
        try:
            os.kill(self.identity.pid, signum)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def exited(self, within: float = 0.0) -> bool:
        deadline = time.monotonic() + within
        while self._processes.alive(self.identity):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, LOOK_EVERY))
        return True


class KqueueHandle(PolledHandle):
    """As a pidfd: its descriptor is readable once the process has exited. The event stays in it, unread."""

    tells = True

    def __init__(self, identity: Identity, processes: Processes, kqueue: Any) -> None:
        super().__init__(identity, processes, kqueue.fileno())
        self._kqueue = kqueue

    def exited(self, within: float = 0.0) -> bool:
        return Handle.exited(self, within)

    def close(self) -> None:
        self._kqueue.close()
        self._fd = -1


class PsProcesses(Processes):
    """`Processes` by `ps`; `Stat.start` is in seconds since 1970. Its kinds say what a process was started with."""

    def __init__(self, boot: str) -> None:
        self.boot = boot

    def stat(self, pid: int) -> Optional[Stat]:
        return self._read("-p", str(pid)).get(pid)

    def table(self, skip: AbstractSet[int] = frozenset()) -> Dict[int, Stat]:
        return {pid: stat for pid, stat in self._read("-ax").items() if pid not in skip}

    def _read(self, *which: str) -> Dict[int, Stat]:
        printed, itself = ps(*which, "-ww", "-o", COLUMNS)
        found = parse(printed)
        found.pop(itself, None)
        return found

    def last_pid(self) -> Optional[int]:
        return None

    def open(self, identity: Identity) -> Optional[Handle]:
        handle = self._by_kqueue(identity) if hasattr(select, "kqueue") else PolledHandle(identity, self)
        # Opened first, compared second, as with a pidfd.
        if handle is not None and not self.alive(identity):
            handle.close()
            return None
        return handle

    def _by_kqueue(self, identity: Identity) -> Optional[Handle]:
        kind: Any = select
        queue = kind.kqueue()
        try:
            exits = kind.kevent(
                identity.pid, filter=kind.KQ_FILTER_PROC, flags=kind.KQ_EV_ADD, fflags=kind.KQ_NOTE_EXIT
            )
            queue.control([exits], 0)
        except OSError:  # it has gone
            queue.close()
            return None
        return KqueueHandle(identity, self, queue)

    def started(self, pid: int) -> float:
        stat = self.stat(pid)
        return float(stat.start) if stat else 0.0

    def arguments(self, pid: int) -> Optional[Tuple[List[str], bytes]]:
        """The argv and the environment (NUL between two) that *pid* was started with; None when they may not be read."""
        raise NotImplementedError

    def environ(self, pid: int) -> bytes:
        found = self.arguments(pid)
        return found[1] if found else b""

    def argv(self, pid: int) -> List[str]:
        found = self.arguments(pid)
        if found and found[0]:
            return found[0]
        stat = self.stat(pid)
        return [f"[{stat.name}]"] if stat else []

    def catches(self, pid: int, signum: int) -> Optional[bool]:
        return None

    def owner(self, pid: int) -> Optional[Tuple[int, int]]:
        words = ps("-p", str(pid), "-o", "uid=,gid=")[0].split()
        return (int(words[0]), int(words[1])) if len(words) == 2 else None

    def exited_child(self) -> Optional[int]:
        # waitid is missing in macOS' older Pythons; and no orphans come to us there.
        own = self.own_pid()
        return next((stat.pid for stat in self.table().values() if stat.ppid == own and stat.exited), None)


def parse(printed: str, session_of: Optional[Callable[[int], int]] = None) -> Dict[int, Stat]:
    """The lines of `ps -o COLUMNS`, in UTC and the C locale, by pid. *session_of* asks the kernel: a Mac's ps knows no sessions."""
    found = {}
    for line in printed.splitlines():
        words = line.split(None, 9)
        if len(words) < 9 or not words[0].isdigit():
            continue
        pid = int(words[0])
        started = calendar.timegm(time.strptime(" ".join(words[4:9]), "%a %b %d %H:%M:%S %Y"))
        name = os.path.basename(words[9].strip()) if len(words) > 9 else ""
        found[pid] = Stat(
            pid, int(words[1]), int(words[2]), (session_of or _session)(pid), words[3][0], 1, started, name
        )
    return found


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def ps(*args: str) -> Tuple[str, int]:
    """
    What `ps` *args* prints, and its own pid. Raises DeployerError when it cannot be asked: that is no sign that all have exited.
    """
    env = {"PATH": "/bin:/usr/bin", "LC_ALL": "C", "TZ": "UTC0", "DEPLOYER_ENGINE": "ps"}
    try:
        with subprocess.Popen(
            ["ps", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        ) as asked:
            try:
                printed, said = asked.communicate(timeout=ANSWER_WITHIN)
            except BaseException:
                asked.kill()
                raise
    except (OSError, subprocess.SubprocessError) as error:
        raise DeployerError("the process table cannot be read", cause=f"ps: {error}") from error
    if asked.returncode not in (0, 1) or said.strip():
        raise DeployerError(
            "the process table cannot be read", cause=said.decode("utf-8", "replace").strip() or "ps failed"
        )
    return os.fsdecode(printed), asked.pid
