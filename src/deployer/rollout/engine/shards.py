"""The shards of one rollout: actors on the cluster, each of which carries the links to many hosts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from deployer.errors import LinkError, PreflightError
from deployer.rollout.carrier import Stranded
from deployer.rollout.engine.door import door
from deployer.rollout.engine.same import same

START_WITHIN, AGAIN_WITHIN = 60.0, 15.0
"""Seconds until the first shard must be there: a node may have to start a Python; and until one must that takes their place."""
OTHERS_WITHIN = 10.0
"""Seconds that the others may come later: somebody else may have taken their CPU meanwhile."""
AT_ONCE = 100_000
"""Calls that one shard takes at a time: they wait, and cost it nothing."""


class Shard:
    """One actor, on `node`; a `lost` one takes no more hosts."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._lock = threading.Lock()
        self.actor = actor
        self.node = "?"
        self.lost = False
        self._wakers: dict[str, Callable[[Stranded], None]] = {}
        self._asked: Any = None

    @property
    def hosts(self) -> int:
        """How many links it carries."""
        return len(self._wakers)

    def took(self, key: str, wake: Callable[[Stranded], None]) -> None:
        """It carries one more link, of that *key*; *wake* is called when it is given up."""
        with self._lock:
            self._wakers[key] = wake

    def gave_back(self, key: str) -> None:
        with self._lock:
            self._wakers.pop(key, None)

    def broke(self, error: Exception) -> Exception:
        """What *error*, met by a call, means to whoever made it."""
        errors = self._ray.exceptions
        if isinstance(error, errors.RayTaskError):
            return RuntimeError(str(error))  # a bug of ours, told as one
        self.lost = self.lost or isinstance(error, errors.ActorDiedError)
        return _stranded(f"the Ray node {self.node}, which carried it, is gone or cannot be reached")

    def ask(self) -> None:
        """Have it answer, some time."""
        self._asked = self.actor.pulse.remote().future()

    def answered(self) -> bool:
        """Whether it has, in whatever way: of a dead one others tell."""
        return self._asked is None or self._asked.done()

    def give_up(self, cause: str) -> None:
        """It is lost, and ends; whoever waits for it waits no longer."""
        self.lost = True
        self._ray.kill(self.actor, no_restart=True)
        with self._lock:
            wakers = list(self._wakers.values())
        for wake in wakers:
            wake(_stranded(cause))


def _stranded(cause: str) -> Stranded:
    return Stranded(
        "the link was lost with the shard that carried it", cause=cause, state="the host itself may be well"
    )


class Shards:
    """As many actors as there are CPUs free, and not more than hosts; another one when all are lost."""

    def __init__(self, ray: Any, hosts: int) -> None:
        self._ray = ray
        self._lock = threading.Lock()
        free = int(ray.available_resources().get("CPU", 0))
        self._shards = [self._begin(cpus=1) for _ in range(max(1, min(hosts, free)))]
        self._keep_those_that_came(START_WITHIN)

    def __len__(self) -> int:
        return len(self._shards)

    def pick(self, key: str, wake: Callable[[Stranded], None]) -> Shard:
        """
        The living shard that carries the fewest hosts; it carries the link *key* from now on, and *wake* is called when it is given
        up. Raises PreflightError when none can be had any more.
        """
        with self._lock:
            living = [shard for shard in self._shards if not shard.lost]
            if not living:
                self._shards = [self._begin(cpus=0)]  # our CPUs may be what died, and others have taken the rest
                self._keep_those_that_came(AGAIN_WITHIN)
                living = self._shards
            picked = min(living, key=lambda shard: shard.hosts)
            picked.took(key, wake)  # before the next one picks: they come side by side
            return picked

    def living(self) -> list[Shard]:
        with self._lock:
            return [shard for shard in self._shards if not shard.lost]

    def end(self) -> None:
        """They end, at once."""
        for shard in self._shards:
            self._ray.kill(shard.actor, no_restart=True)

    def _begin(self, cpus: int) -> Shard:
        kind = self._ray.remote(door())
        how = {"num_cpus": cpus, "max_concurrency": AT_ONCE, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        return Shard(self._ray, kind.options(**how).remote())

    def _keep_those_that_came(self, within: float) -> None:
        asked = {shard.actor.fit.remote(): shard for shard in self._shards}
        self._ray.wait(list(asked), num_returns=1, timeout=within)
        came, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=OTHERS_WITHIN)
        fit = [asked[reference] for reference in came if self._is_fit(reference, asked[reference])]
        for shard in asked.values():
            if shard not in fit:
                self._ray.kill(shard.actor, no_restart=True)
        self._shards = fit
        if not fit:
            raise PreflightError(
                "no node of the Ray cluster can take part in the rollout",
                cause=f"none had a CPU free, and started a process, within {within + OTHERS_WITHIN:g}s",
                state="nothing was changed by this call", hint="see `ray status`, or push without --engine ray",
            )  # fmt: skip

    def _is_fit(self, reference: Any, shard: Shard) -> bool:
        try:
            told = self._ray.get(reference)
        except self._ray.exceptions.RayError:
            return False  # it died while it started: another one is as good
        shard.node = str(told["node"])
        _require_same(told)
        return True


def _require_same(told: dict[str, Any]) -> None:
    ours = same()
    if told.get("same") != ours:
        theirs = told.get("missing") or f"it has deployer {told.get('same')}, and this client is {ours}"
        raise PreflightError(
            f"the Ray node {told['node']} cannot carry this rollout", cause=theirs, state="nothing was changed by this call",
            hint="install the same deployer on every node: pip install deployer, into the environment that Ray runs in",
        )  # fmt: skip


def unreachable(error: LinkError) -> LinkError:
    """*error*, with how things stand."""
    error.state = error.state or "nothing was changed by this call"
    return error
