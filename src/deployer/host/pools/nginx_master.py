"""nginx seen from outside: its master, which workers serve, and which only finish what they have."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set

from deployer.errors import PoolError
from deployer.host.process import Processes, here
from deployer.model import Identity

_WORKER, _LEAVING = "nginx: worker process", "nginx: worker process is shutting down"
_MASTER = "nginx: master process"


class Workers(NamedTuple):
    """Workers that take connections, and those that have been told to finish."""

    serving: Set[Identity]
    leaving: Set[Identity]


class Master:
    """The nginx whose pid stands in *path*. What it runs is read from the process table: it says nothing by itself."""

    def __init__(self, path: Path, processes: Optional[Processes] = None) -> None:
        self.path = path
        self._processes = processes or here()

    def pid(self) -> int:
        """The master's pid. Raises PoolError when nginx does not run."""
        try:
            number = int(self.path.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            hint = 'start nginx, or write where its pid stands: pidfile = "/run/nginx.pid"'
            raise PoolError("nginx does not run", cause=f"{self.path}: {error}", hint=hint) from error
        if not self._title(number).startswith(_MASTER):
            cause = f"{self.path} names pid {number}, which is no nginx master"
            raise PoolError("nginx does not run", cause=cause, hint="start nginx")
        return number

    def workers(self) -> Workers:
        """The workers as they are now. Raises PoolError when nginx does not run."""
        master = self.pid()
        found = Workers(set(), set())
        for pid, title in self._children(master).items():
            identity = self._processes.identity(pid)
            if identity is not None and title.startswith(_WORKER):
                (found.leaving if title.startswith(_LEAVING) else found.serving).add(identity)
        return found

    def loaded_since(self, moment: float) -> bool:
        """Whether every worker that serves was started after *moment* (wall clock), so that it knows what was written by then."""
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        hertz = os.sysconf("SC_CLK_TCK")
        serving = self.workers().serving
        return bool(serving) and all(boot + worker.start / hertz > moment for worker in serving)

    def _children(self, master: int) -> Dict[int, str]:
        table = self._processes.table()
        pids: List[int] = [pid for pid, stat in table.items() if stat.ppid == master and not stat.exited]
        return {pid: self._title(pid) for pid in pids}

    def _title(self, pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            return ""
