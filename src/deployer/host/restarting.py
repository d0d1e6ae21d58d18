"""Starts that wait their turn: after each crash a little longer."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Dict, Optional

from deployer.host.ground import Ground
from deployer.host.instance import new_instance_id, spec_of
from deployer.host.starting import Starting
from deployer.host.state import Row

BACKOFF_FIRST, BACKOFF_LONGEST = 0.5, 60.0
"""Seconds before the first and at most before any restart after a crash; doubled from one crash to the next."""
STEADY_AFTER = 60.0
"""An instance that ran this long (seconds) before it crashed starts the back-off anew."""


def backoff(crashes: int) -> float:
    """Seconds until the next start after so many in vain, in a row."""
    return min(BACKOFF_LONGEST, BACKOFF_FIRST * 2 ** (min(crashes, 20) - 1)) if crashes else 0.0


class Restarts:
    """When whom of one app's instances may be started again. A keeper that comes back waits for none of them."""

    def __init__(self, ground: Ground, starting: Starting) -> None:
        self._state = ground.state
        self._processes = ground.processes
        self._clock = ground.clock
        self._say = ground.say
        self._starting = starting
        self._not_before: Dict[str, float] = {}
        self._in_vain: Dict[str, int] = {}

    def schedule(self, row: Row) -> None:
        """Promise another instance in the place of the one in *row*, which has crashed, and wish for it."""
        ran = (row["ended_at"] or 0) - (row["started_at"] or row["ended_at"] or 0)
        rebooted = row["boot"] not in (None, self._processes.boot)
        crashes = 0 if rebooted else 1 if ran >= STEADY_AFTER else int(row["crashes"] or 0) + 1
        crashed = spec_of(row)
        # Nobody proves it: it opens by itself.
        spec = changed(crashed, id=new_instance_id(), beside=crashed.overlap, gate=False)
        with self._state.transaction():
            self._starting.promise(spec, row["deploy"], True, crashes)
            self._state.set_meta("desired", spec.id)
        delay = backoff(crashes)
        self._not_before[spec.id] = self._clock.now() + delay
        self._say(f"restarting {spec.release} in {delay} s (crash {crashes})")

    def is_time(self, instance: str) -> bool:
        return self._clock.now() >= self._not_before.get(instance, 0.0)

    def put_off(self, instance: str) -> float:
        """Its start came to nothing: when (monotonic seconds) its next turn is."""
        self._in_vain[instance] = self._in_vain.get(instance, 0) + 1
        delay = backoff(self._in_vain[instance])
        self._not_before[instance] = self._clock.now() + delay
        self._say(f"the start of {instance} has come to nothing: asked again in {delay} s")
        return self._not_before[instance]

    def begun(self, instance: str) -> None:
        """Its turn has come."""
        self._not_before.pop(instance, None)

    def settled(self, instance: str) -> None:
        """It has been started, or never will be."""
        self._not_before.pop(instance, None)
        self._in_vain.pop(instance, None)

    def overtaken(self) -> None:
        """Somebody asked for something else."""
        self._not_before.clear()
        self._in_vain.clear()

    def waits(self) -> bool:
        """Whether anybody's turn is still to come."""
        return bool(self._not_before)

    def due(self, instance: str) -> Optional[float]:
        """When the turn of *instance* comes (monotonic seconds); None where it waits for none."""
        return self._not_before.get(instance)

    def left(self, instance: str) -> Optional[float]:
        """Seconds until then."""
        due = self.due(instance)
        return None if due is None else round(max(0.0, due - self._clock.now()), 1)
