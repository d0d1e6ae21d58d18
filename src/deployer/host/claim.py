"""The deploy lock as one command has it: waited for among others, with what was interrupted finished first."""

from __future__ import annotations

import os
import select
import time
from typing import Any, Callable, Dict, List, Optional

from deployer.errors import DeployerError, LockedError, PreflightError
from deployer.host import waiting
from deployer.host.deploy import unfinished
from deployer.host.journal import timestamp
from deployer.host.lock import DeployLock
from deployer.host.paths import HostPaths
from deployer.host.process import here
from deployer.host.state import opened
from deployer.host.supervisors import builtin

UNDO_WITHIN = 3.0
"""Seconds that a new deploy waits, unasked, for an interrupted one to be undone."""
LOOK_AGAIN = 0.25
RESUMED_AT_MOST = 3
"""How often one command has an interrupted deploy resumed before it gives up: a second deploy must not begin beside it."""

Params = Dict[str, Any]


class Claim:
    """
    Held from `take` to `release`, or to the end of the last process that inherited it.

    *asked* is the request that wants it (`deploy`, `kind`, `who`, `wait_lock`, `supersede`, `at`: when it came); *client* a
    descriptor that closes with whoever wants it; *tell* is given the event `lock.waiting` when there is somebody to wait for.
    """

    def __init__(self, paths: HostPaths, asked: Params, client: int, tell: Callable[[Params], None]) -> None:
        self._paths = paths
        self._asked = asked
        self._client = client
        self._tell = tell
        self._lock: Optional[DeployLock] = None
        self.behind: Params = {}

    @property
    def held(self) -> bool:
        return self._lock is not None

    def take(self) -> None:
        """
        Hold the lock, with no deploy left unfinished. `behind` is then who had to be waited for.

        Raises LockedError that says who holds it and what for, PreflightError when a deploy can neither be finished nor undone.
        """
        self._acquire()
        try:
            self._finish_interrupted()
        except BaseException:
            self.release()
            raise

    def write(self, **more: Any) -> None:
        """Say in the lock file who holds it now. Never raises: a disk that refuses costs only the name."""
        try:
            if self._lock is not None:
                self._lock.write({**self._who(), **more})
        except OSError:
            pass

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _who(self) -> Params:
        return {
            **{name: self._asked[name] for name in ("deploy", "kind", "who")},
            "since": time.time(),
            "pid": os.getpid(),
        }

    def _acquire(self) -> None:
        holding, wait = DeployLock(self._paths.lock), float(self._asked.get("wait_lock") or 0)
        place = waiting.Place(self._paths.waiting, {**self._who(), "since": self._asked.get("at")})
        told: List[str] = []

        def look() -> None:
            place.require_wanted()
            behind = str(holding.behind.get("deploy") or "")
            if wait > 0 and behind and behind not in told:
                told.append(behind)
                self._tell(self._waiting_for(holding.behind))

        try:
            if wait > 0:
                place.take(bool(self._asked.get("supersede")))
            holding.acquire(self._who(), wait, self._client, look)
        except LockedError as error:
            step = self._step_of(holding.behind) if holding.behind else None
            error.cause = f"{error.cause}, at {step}" if step else error.cause
            raise
        finally:
            place.leave()
        self._lock, self.behind = holding, holding.behind or self.behind

    def _waiting_for(self, behind: Params) -> Params:
        named = {name: behind.get(name) for name in ("deploy", "kind", "who")}
        since = behind.get("since")
        named.update(for_s=round(time.time() - since, 1) if isinstance(since, (int, float)) else None)
        host = str(self._asked["target"].get("host") or "local")
        return {
            "v": 1, "time": timestamp(time.time()), "deploy": self._asked["deploy"], "host": host, "event": "lock.waiting",
            "behind": {**named, "step": self._step_of(behind)},
        }  # fmt: skip

    def _step_of(self, behind: Params) -> Optional[str]:
        """What the deploy that holds the lock is doing; None where that cannot be read."""
        try:
            with opened(self._paths.state) as state:
                row = unfinished(state)
        except DeployerError:
            return None
        return str(row["step"]) if row and row["id"] == behind.get("deploy") else "prepare"

    def _finish_interrupted(self) -> None:
        # We hold the lock, so a deploy that has not ended has no runner any more. Let one finish it first.
        for _ in range(RESUMED_AT_MOST):
            name = self._interrupted()
            if name is None:
                return
            self.release()
            self._await(builtin.resume(self._paths, name))
            # What takes longer is a drain that goes on: the lock says so, and --wait-lock waits for it as for any other deploy.
            self._acquire()
        if self._interrupted() is not None:  # resumed later, it would undo or confirm over the one that begins now
            raise PreflightError(
                "an interrupted deploy cannot be brought to an end",
                cause=f"its runner died {RESUMED_AT_MOST} times just now",
                state="untouched by this call; `deployer status` shows what runs",
                hint=f"see {self._paths.engine_log}",
            )

    def _interrupted(self) -> Optional[str]:
        with opened(self._paths.state) as state:
            row = unfinished(state)
        return str(row["id"]) if row else None

    def _await(self, pid: int) -> None:
        """Give the runner *pid* the moment that undoing takes, unless the client goes first."""
        handle, deadline = here().child(pid), time.monotonic() + UNDO_WITHIN
        if handle is None:
            return
        watched = [handle.fileno(), self._client] if handle.tells else [self._client]
        try:
            while not handle.exited() and time.monotonic() < deadline:
                left = deadline - time.monotonic()
                if self._client in select.select(watched, [], [], max(0.0, min(left, LOOK_AGAIN)))[0]:
                    return
        finally:
            handle.close()
