"""What whoever owns instances is told: what shall stop and how, what shall start in its place, what shall run from now on."""

from __future__ import annotations

from functools import partial
from typing import Iterable, List, Optional

from deployer.errors import DeployerError
from deployer.host.draining import Draining
from deployer.host.ground import Ground
from deployer.host.instance import Instance, spec_of
from deployer.host.owned import Owned, OwnedDrain
from deployer.host.roster import Roster
from deployer.host.spawn import environment
from deployer.host.state import Row
from deployer.model import DrainOrder, Spec


class Owners:
    """Tells the owners of one app's instances; all of it may be told twice."""

    def __init__(self, ground: Ground, roster: Roster, draining: Draining, owned: Owned) -> None:
        self._state = ground.state
        self._base_env = ground.base_env
        self._say = ground.say
        self._roster = roster
        self._draining = draining
        self._owned = owned

    # Before anybody is asked -----------------------------------------------------------------------------------------

    def order(
        self, new: Optional[Spec], olds: Iterable[Instance], how: DrainOrder, confirmed: bool = False
    ) -> Optional[Spec]:
        """Let the owners know how *olds* are to be stopped and *new* is started, before anybody is asked; *new*, with its place."""
        living = self._roster.living.values()
        theirs = [old for old in olds if old.spec.owner is not None and old.id not in self._draining.under_way]
        if new is not None and new.owner is not None:
            by = self._owned.by(new)
            new = by.placed(new, [one.spec for one in living if new.beside])
            together = [old.spec for old in living if old.spec.owner is not None and not new.beside]
            env = environment(new, self._base_env)
            by.prepare(new, env, [old for old in together if self._owned.by(old) is by], how, confirmed)
            theirs = [old for old in theirs if old.spec not in together]
        for old in theirs:
            self._owned.by(old.spec).order(old.spec, how)
        return new

    def take_back(self, instance: Optional[str] = None) -> None:
        """Let the owners start nothing more of what was promised (or of *instance* alone), before it is forgotten."""
        sql = "SELECT * FROM instances WHERE state='promised' AND pid IS NULL"
        promised = self._state.rows(sql) if instance is None else self._state.rows(f"{sql} AND id=?", instance)
        for spec in map(spec_of, promised):
            if spec.owner is None or self._owned.begun_after(spec.id) is None:
                continue
            try:
                self._owned.by(spec).stop(spec)
            except DeployerError as error:  # what follows is worth more, and stops it as well
                self._say(f"the start of {spec.id} was not taken back: {error}")

    # Requests --------------------------------------------------------------------------------------------------------

    def ask(self, desired: Optional[Row]) -> None:
        """Ask whoever owns it to stop what drains: together with the start of what comes after it, where that is possible."""
        asked = [one for one in self._draining.under_way.values() if isinstance(one, OwnedDrain)]
        waiting = [one for one in asked if not one.asked]
        new = spec_of(desired) if desired is not None and desired["state"] == "promised" else None
        if waiting and self._owned.together(new, list(self._roster.living.values())):
            assert new is not None
            olds = [one.instance.spec for one in asked]
            if self._swap(new, olds, waiting):
                return
        for one in waiting:
            one.ask(partial(self._owned.by(one.instance.spec).stop, one.instance.spec))

    def _swap(self, new: Spec, olds: List[Spec], waiting: List[OwnedDrain]) -> bool:
        done: List[bool] = []

        def once() -> None:
            if not done:
                self._owned.begin(new, lambda: done.append(self._owned.by(new).swap(new, olds)))
            if not done[0]:
                raise _NotTogether

        try:
            for one in waiting:
                one.ask(once)
        except _NotTogether:
            return False
        return True

    # From now on -----------------------------------------------------------------------------------------------------

    def wish(self, spec: Optional[Spec]) -> None:
        """Let the owners know what shall run from now on, also after a crash and a reboot."""
        rows = self._state.rows("SELECT * FROM instances WHERE confirmed=1 ORDER BY created_at DESC LIMIT 20")
        others = [one for one in map(spec_of, rows) if one.owner is not None]
        here = self._owned.by(spec) if spec is not None and spec.owner is not None else None
        for by in {id(by): by for by in [*map(self._owned.by, others), *([here] if here else [])]}.values():
            by.confirm(spec if by is here else None, [one for one in others if self._owned.by(one) is by])


class _NotTogether(Exception):
    """Its owner can stop and start, and not both in one go."""
