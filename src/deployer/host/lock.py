"""The deploy lock: the kernel's flock, freed with the last process that holds it; the text in it only tells who."""

from __future__ import annotations

import fcntl
import json
import os
import select
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from deployer.durations import show
from deployer.errors import LockedError

LOOK_EVERY = 0.02
LOOK_TAKES = 0.2
"""Seconds for which even an impatient caller tries: `free` holds the lock for the moment of its look."""
READS = 5
"""Looks at a lock file that makes no sense before it counts as empty."""
NAMED_WITHIN = 0.5


class DeployLock:
    """
    Held from `acquire` until every process that inherited it by fork has gone or let go.

    `behind` is who held it last where it had to be waited for, as in `holder`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self.behind: Dict[str, Any] = {}

    def acquire(
        self, who: Dict[str, Any], wait: float, client: Optional[int] = None, look: Callable[[], None] = lambda: None
    ) -> None:
        """
        Take the lock, waiting up to *wait* seconds for its holder, and no longer than *client* (a descriptor) is open.

        *look* is called while it waits, and may raise to end that. Raises LockedError that says who holds it.
        """
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not self._try(max(wait, LOOK_TAKES), client, look):
                raise _held(_current_holder(self._path), wait)
            self.write(who)
        except BaseException:
            self.release()
            raise

    def write(self, who: Dict[str, Any]) -> None:
        """Say in the lock file who holds it and what for. Who reads it meanwhile gets the old text or the new one."""
        # In one write: truncated first, the file was empty for a moment, and every fourth follower missed its runner.
        text = json.dumps(who).encode()
        os.pwrite(self._fd, text.ljust(os.fstat(self._fd).st_size), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)  # never LOCK_UN: a fork of ours may hold the same lock
            self._fd = -1

    def _try(self, seconds: float, client: Optional[int], look: Callable[[], None]) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                self.behind = _other(self._path) or self.behind
                if time.monotonic() >= deadline or _closed(client):
                    return False
                look()


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


def _closed(client: Optional[int]) -> bool:
    """Whether *client* has gone away; takes as long as a look at the lock may wait for the next one."""
    watched = [] if client is None else [client]
    return bool(select.select(watched, [], [], LOOK_EVERY)[0])


def holder(path: Path) -> Dict[str, Any]:
    """What the lock's holder, or the last one, said of itself."""
    for _ in range(READS):  # the kernel may show a write half done
        try:
            said = json.loads(path.read_text("utf-8"))
        except OSError:
            break
        except ValueError:
            continue
        return said if isinstance(said, dict) else {}
    return {}


def _current_holder(path: Path) -> Dict[str, Any]:
    # Whoever has just taken the lock may not have written its name yet: what stands there is the last one's.
    deadline = time.monotonic() + NAMED_WITHIN
    while True:
        by = holder(path)
        if _lives(by.get("pid")) or time.monotonic() >= deadline:
            return by
        time.sleep(LOOK_EVERY)


def _other(path: Path) -> Dict[str, Any]:
    """The living holder; nobody where somebody only looks: then the last one's name stands there, or our own."""
    by = holder(path)
    return by if by.get("pid") != os.getpid() and _lives(by.get("pid")) else {}


def _lives(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _held(by: Dict[str, Any], waited: float) -> LockedError:
    ago = f", for {show(time.time() - by['since'])}" if isinstance(by.get("since"), (int, float)) else ""
    what = f"{by.get('kind', 'deploy')} {by.get('deploy', '')} by {by.get('who', 'somebody')}"
    return LockedError(
        "another deploy is under way" + (f"; waited {show(waited)} for it" if waited else ""),
        cause=f"{what}{ago} (pid {by.get('pid', '?')})",
        state="untouched by this call",
        hint="follow it with `deployer attach`, or wait for it with --wait-lock 10m",
    )
