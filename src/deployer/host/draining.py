"""The drains under way in one app: ordered, carried out turn by turn, and their verdicts written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Union, cast

from deployer.errors import DeployerError
from deployer.host import drain
from deployer.host.asked_drain import AskedDrain
from deployer.host.ground import Ground
from deployer.host.instance import Instance
from deployer.host.owned import Owned, OwnedDrain
from deployer.host.roster import Roster
from deployer.host.spawn import read_secrets
from deployer.host.supervisors import owner
from deployer.model import DrainOrder, Verdict
from deployer.wire.redaction import Redactor

AnyDrain = Union[drain.Drain, OwnedDrain]


class Draining:
    """`under_way` by instance. Every drain is on record (`order`) before it is carried out (`begin`)."""

    def __init__(self, ground: Ground, roster: Roster, owned: Owned) -> None:
        self._state = ground.state
        self._clock = ground.clock
        self._say = ground.say
        self._roster = roster
        self._owned = owned
        self.under_way: Dict[str, AnyDrain] = {}
        self.one_has_just_ended = False
        """In the last `advance`."""

    def recover(self) -> None:
        """Go on with what an earlier keeper left under way."""
        for row in self._state.rows("SELECT instance FROM drains WHERE verdict IS NULL"):
            if row["instance"] in self._roster.living:
                self.under_way[row["instance"]] = self._drain_of(self._roster.living[row["instance"]])

    def order(self, instances: Iterable[Instance], deploy: str, who: str, how: DrainOrder) -> None:
        """Record that *instances* shall drain. Within the caller's transaction."""
        for instance in instances:
            drain.order(self._state, self._clock, instance, deploy, who, how)

    def begin(self, instances: Iterable[Instance], deploy: str, who: str, how: DrainOrder) -> None:
        """Begin to carry out the drains of *instances*, which are on record."""
        for instance in instances:
            if instance.id not in self.under_way:
                self.under_way[instance.id] = self._drain_of(instance)
            else:
                self.under_way[instance.id].take_over(deploy, who, how)

    def begin_leftovers(self, instance: Instance) -> None:
        """Ask what the main process of *instance* left behind in its crash to stop."""
        how = DrainOrder(**instance.spec.drain) if instance.spec.drain else DrainOrder()
        with self._state.transaction():
            drain.order(self._state, self._clock, instance, instance.deploy or "", drain.CRASH, how)
        self.under_way[instance.id] = self._drain_of(instance)
        self.under_way[instance.id].advance()

    def _drain_of(self, instance: Instance) -> AnyDrain:
        by = self._owned.by(instance.spec) if instance.spec.owner is not None else None
        if by is None or not by.stops:
            return drain.Drain(instance, self._state, self._clock)
        if not by.whole:
            return AskedDrain(instance, self._state, self._clock, cast(owner.Asker, by))
        return OwnedDrain(instance, self._state, self._clock, by, self._owned.run_of(instance.id))

    def advance(self) -> None:
        """Do what is due in each of them."""
        before = len(self.under_way)
        for name, found in list(self.under_way.items()):
            verdict = found.advance()
            if verdict is not None:
                self._drained(self._roster.living[name], verdict)
        self.one_has_just_ended = len(self.under_way) < before

    def _drained(self, instance: Instance, verdict: Verdict) -> None:
        if instance.spec.owner is not None:
            verdict = self._owned.cleared(instance.spec, verdict, self._clock)
        self._state.update("drains", instance.id, verdict=json.dumps(_redacted(instance, verdict.to_json())))
        del self.under_way[instance.id]
        self._roster.end(instance, verdict.exit_code)
        self._say(f"drained {instance.id} of {instance.spec.release}: {verdict.verdict} after {verdict.waited_s} s")

    def move_deadline(self, instance: str, deadline: float, who: str) -> bool:
        """Move the ceiling of a drain to *deadline* (monotonic seconds), as *who* asked. False when it is too late for that."""
        found = self.under_way.get(instance)
        moved = found is not None and found.move_deadline(deadline)
        if moved:
            left = max(0.0, deadline - self._clock.now())
            self._say(f"drain of {instance} may take {left:.1f} s more{f': asked by {who}' if who else ''}")
        return moved

    def extend(self, instance: str, seconds: float) -> None:
        """*instance* itself asks for *seconds* from now; less than it has already changes nothing."""
        found = self.under_way.get(instance)
        asked = self._clock.now() + seconds
        if found is not None and asked > found.deadline:
            found.move_deadline(asked)
            self._say(f"{instance} asked for more time (EXTEND_TIMEOUT_USEC)")

    def summary(self, instance: str) -> Optional[Dict[str, Any]]:
        """How far the drain of *instance* is, for a client; None where there is none."""
        found = self.under_way.get(instance)
        if found is None:
            return None
        left = max(0.0, found.deadline - self._clock.now())
        return {"deploy": found.deploy, "waited_s": round(found.waited(), 3), "left_s": round(left, 3)}


def _redacted(instance: Instance, told: Dict[str, Any]) -> Any:
    # Command lines are in it, and what a shell has put into one stays a secret.
    if instance.spec.secrets_file is None:
        return told
    try:
        return Redactor(read_secrets(Path(instance.spec.secrets_file)))(told)
    except DeployerError:  # damaged: nobody can say what must not be told
        return {**told, "killed": [], "stuck": []}
