"""Deploys that have lost their runner: another one is started, which proves the new release or goes back."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Collection, Dict

from deployer.host import engine
from deployer.host import lock as deploylock
from deployer.host.clock import Clock
from deployer.host.deploy import DRAIN
from deployer.host.detached import start_detached
from deployer.host.paths import HostPaths
from deployer.host.state import State

RESUME_AFTER = 1.0
"""Seconds that an unfinished deploy may be without a runner before the keeper starts one."""
RESUMES = 5
"""How often the keeper starts a runner for the same deploy before it leaves it to the next command."""
LOOK_EVERY = 15.0
"""Seconds between two looks even if no runner was seen to go: one may have died before it could say hello."""


class Resuming:
    """Looks, when `due` (monotonic seconds), for deploys of one app that nobody is at. `say` takes a line for the engine's log."""

    def __init__(self, paths: HostPaths, state: State, clock: Clock, say: Callable[[str], None]) -> None:
        self._paths = paths
        self._state = state
        self._clock = clock
        self._say = say
        self._tries: Dict[str, int] = {}
        self.due = clock.now() + RESUME_AFTER

    def soon(self) -> None:
        """A runner has gone without a goodbye."""
        self.due = self._clock.now() + RESUME_AFTER

    def look(self, attended: Collection[str]) -> None:
        """Start a runner for each deploy that has none and is not *attended*, if it is time for that."""
        if self._clock.now() < self.due:
            return
        self.due = self._clock.now() + LOOK_EVERY
        rows = self._state.rows(
            "SELECT id, step FROM deploys WHERE ended_at IS NULL AND step IS NOT NULL ORDER BY started_at"
        )
        needing_the_lock = [row for row in rows if row["step"] != DRAIN][-1:]
        for row in [*(row for row in rows if row["step"] == DRAIN), *needing_the_lock]:
            held = self._paths.drain_lock(row["id"]) if row["step"] == DRAIN else self._paths.lock
            if row["id"] not in attended:
                self._resume(str(row["id"]), held)

    def under_way(self) -> bool:
        """Whether there is a deploy whose runner we would have to replace, were it to die now."""
        rows = self._state.rows("SELECT id FROM deploys WHERE ended_at IS NULL AND step IS NOT NULL")
        return any(self._tries.get(str(row["id"]), 0) < RESUMES for row in rows)

    def _resume(self, deploy: str, held: Path) -> None:
        if not deploylock.free(held):
            return  # a runner that is busy elsewhere, or somebody who looks after it
        tries = self._tries.get(deploy, 0)
        if tries >= RESUMES:
            return
        self._tries[deploy] = tries + 1
        self._say(f"deploy {deploy} has lost its runner: starting another")
        argv = engine.argv(engine.source(), "resume", str(self._paths.root), deploy)
        start_detached(argv, engine.environment("runner"), self._paths)
        self.due = self._clock.now() + RESUME_AFTER * 2 ** (tries + 1)
