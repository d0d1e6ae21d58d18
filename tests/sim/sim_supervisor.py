"""The built-in supervisor as its clients see it, with a simulated keeper at the other end: supervisors/builtin.py's promises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sim_keeper import SimKeeper
from sim_world import Died, Life, World

from deployer.errors import DeployerError
from deployer.host.control import Control
from deployer.host.supervise import Core
from deployer.host.supervisors.builtin import TRIES
from deployer.model import DrainOrder, Identity, Spec


class SimSupervisor:
    """*life*'s connection. A keeper that dies under a request is replaced by another, unasked."""

    def __init__(self, world: World, life: Life, control: Control, deploy: str) -> None:
        self._world = world
        self.deploy = deploy
        self._control = control
        self.life = life
        self.changed = False
        self._keeper: SimKeeper | None = None

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask(lambda core: core.status(), looks=True)
        return answer

    def replace(self, deploy: str, who: str, new: Spec | None, how: DrainOrder, confirmed: bool = False) -> None:
        self._world.effect(self.life, "ask: replace", (new.id if new else None, how.ceiling))
        self._world.asks(how.ceiling, new.id if new else None)
        self._ask(lambda core: core.replace(deploy, who, new, how, confirmed))
        self._world.effect(self.life, "answered: replace")

    def launch(self, deploy: str, new: Spec) -> None:
        self._world.effect(self.life, "ask: launch", (new.id,))
        self._ask(lambda core: core.launch(deploy, new))
        self._world.effect(self.life, "answered: launch")

    def retire(self, deploy: str, who: str, keep: str, how: DrainOrder) -> None:
        self._world.effect(self.life, "ask: retire", (keep, how.ceiling))
        self._world.asks(how.ceiling, keep)
        self._ask(lambda core: core.retire(deploy, who, keep, how))
        self._world.effect(self.life, "answered: retire")

    def dismiss(self, deploy: str, who: str, instance: str, how: DrainOrder) -> None:
        self._world.effect(self.life, "ask: dismiss", (instance, how.ceiling))
        self._world.asks(how.ceiling, only=instance)
        self._ask(lambda core: core.dismiss(deploy, who, instance, how))
        self._world.effect(self.life, "answered: dismiss")

    def record(self, instance: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._ask(lambda core: core.record_of(instance), looks=True)
        return found

    def adopt(self, spec: Spec, identity: Identity) -> None:
        raise NotImplementedError("adopting is not simulated")

    def confirm(self, instance: str) -> None:
        self._world.effect(self.life, "ask: confirm", (instance,))
        self._ask(lambda core: core.confirm(instance))

    def move_deadline(self, instance: str, deadline: float, who: str = "") -> bool:
        world, at = self._world, self._world.at(deadline)
        world.effect(self.life, "ask: move deadline", (instance, round(at - world.time, 3)))
        before = sum(world.asked.get(instance, (at, 0.0)))
        if at < before:  # from the moment of the request on, the keeper may use force
            world.moves(instance, at)
        moved: bool = self._ask(lambda core: core.move_deadline(instance, deadline, who))
        if moved and at > before:
            world.moves(instance, at)
        return moved

    def wait(self, deadline: float) -> None:
        self._world.must_live(self.life)
        if self.changed:
            self.changed = False
            return
        if self._keeper is not None and not self._control.pending():
            until, woken = self._world.at(deadline), partial(self._woken, self._keeper)
            if self._world.follows(self.life):
                self._world.rest(self.life, until, woken)
            else:
                self._world.pass_time(until, woken)
            self.changed = False
        self._world.must_live(self.life)

    def close(self) -> None:
        keeper = self._keeper
        if keeper is not None and self in keeper.clients:
            keeper.clients.remove(self)

    def _woken(self, keeper: SimKeeper) -> bool:
        return self.changed or self._control.pending() or not self.life.alive or not keeper.life.alive

    def _ask(self, act: Callable[[Core], Any], looks: bool = False) -> Any:
        for _ in range(TRIES):
            keeper = self._connect()
            try:
                found = keeper.answer(act, looks)
            except Died:
                self._world.must_live(self.life)
                self._keeper = None
                continue
            self._world.must_live(self.life)
            if not looks and self._world.dice.random() < 0.5:
                self._world.let_keeper()
            return found
        raise DeployerError("the keeper, the parent of the app, does not answer")

    def _connect(self) -> SimKeeper:
        self._world.must_live(self.life)
        if self._keeper is None or not self._keeper.life.alive:
            self._keeper = connect(self._world, self.life)
            self._world.must_live(self.life)
            self._keeper.clients.append(self)
        return self._keeper


def connect(world: World, life: Life) -> SimKeeper:
    """The keeper that runs, or one started now. Raises PreflightError when it does not come up."""
    if world.keeper is None or not world.keeper.life.alive:
        world.effect(life, "start a keeper")
        if world.keeper is None or not world.keeper.life.alive:
            world.keeper = SimKeeper(world)
            world.keeper.come_up()
    return world.keeper
