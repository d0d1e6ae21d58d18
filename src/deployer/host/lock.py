"""The deploy lock: the kernel's flock, freed with the last process that holds it; the text in it only tells who."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from pathlib import Path
from typing import Any, Dict, Optional

from deployer.durations import show
from deployer.errors import LockedError


class DeployLock:
    """Held from `acquire` until every process that inherited it by fork has gone or let go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def acquire(self, who: Dict[str, Any], wait: float) -> None:
        """Take the lock, waiting up to *wait* seconds for its holder. Raises LockedError that says who holds it."""
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not self._try() and not (wait > 0 and self._wait(wait)):
            os.close(self._fd)
            self._fd = -1
            raise _held(holder(self._path), wait)
        self.write(who)

    def write(self, who: Dict[str, Any]) -> None:
        """Say in the lock file who holds it and what for."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(who).encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)  # never LOCK_UN: a fork of ours may hold the same lock
            self._fd = -1

    def _try(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait(self, seconds: float) -> bool:
        # The kernel wakes us when the lock is free; an alarm ends the wait.
        def expire(*_: object) -> None:
            raise TimeoutError

        before = signal.signal(signal.SIGALRM, expire)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            return True
        except TimeoutError:
            return False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def free(path: Path) -> bool:
    """Whether nobody holds the lock at *path* right now."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def holder(path: Path) -> Dict[str, Any]:
    """What the lock's holder, or the last one, said of itself."""
    try:
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _held(by: Dict[str, Any], waited: Optional[float]) -> LockedError:
    import time

    ago = f", for {show(time.time() - by['since'])}" if isinstance(by.get("since"), (int, float)) else ""
    return LockedError(
        "another deploy is under way" + (f"; waited {show(waited)} for it" if waited else ""),
        cause=f"{by.get('kind', 'deploy')} {by.get('deploy', '')} by {by.get('who', 'somebody')}{ago} (pid {by.get('pid', '?')})",
        state="untouched by this call",
        hint="follow it with `deployer attach`, or wait for it with --wait-lock 10m",
    )
