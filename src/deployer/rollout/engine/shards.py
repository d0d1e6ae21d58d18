"""The shards of one rollout: actors on the cluster, each of which carries the links to many hosts."""

from __future__ import annotations

import threading
from typing import Any

from deployer.errors import LinkError, PreflightError
from deployer.rollout.carrier import Stranded
from deployer.rollout.engine.door import door
from deployer.rollout.engine.same import same

START_WITHIN = 60.0
"""Seconds until the first shard must be there; a node may have to start a Python."""
AT_ONCE = 100_000
"""Calls that one shard takes at a time: they wait, and cost it nothing."""


class Shard:
    """One actor. `hosts` counts its links; a `lost` one takes no more."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._lock = threading.Lock()
        self.actor = actor
        self.node = "?"
        self.hosts = 0
        self.lost = False

    def took(self) -> None:
        with self._lock:
            self.hosts += 1

    def gave_back(self) -> None:
        with self._lock:
            self.hosts -= 1

    def broke(self, error: Exception, host: str) -> Exception:
        """What *error*, met by a call for *host*, means to whoever talks to it."""
        errors = self._ray.exceptions
        if isinstance(error, errors.RayTaskError):
            return RuntimeError(str(error))  # a bug of ours, told as one
        self.lost = self.lost or isinstance(error, errors.ActorDiedError)
        return Stranded(
            f"the link to {host} was lost", cause=f"the Ray node {self.node}, which carried it, is gone or cannot be reached",
            state="the host itself may be well",
        )  # fmt: skip


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

    def pick(self) -> Shard:
        """The living shard that carries the fewest hosts. Raises PreflightError when none can be had any more."""
        with self._lock:
            living = [shard for shard in self._shards if not shard.lost]
            if not living:
                self._shards = [self._begin(cpus=0)]  # our CPUs may be what died, and others have taken the rest
                self._keep_those_that_came(START_WITHIN)
                living = self._shards
            return min(living, key=lambda shard: shard.hosts)

    def end(self) -> None:
        """They end, at once."""
        for shard in self._shards:
            self._ray.kill(shard.actor, no_restart=True)

    @property
    def actors(self) -> list[Any]:
        return [shard.actor for shard in self._shards if not shard.lost]

    def _begin(self, cpus: int) -> Shard:
        kind = self._ray.remote(door())
        how = {"num_cpus": cpus, "max_concurrency": AT_ONCE, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        return Shard(self._ray, kind.options(**how).remote())

    def _keep_those_that_came(self, within: float) -> None:
        asked = {shard.actor.fit.remote(): shard for shard in self._shards}
        came, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=within)
        fit = [asked[reference] for reference in came if self._is_fit(reference, asked[reference])]
        for shard in asked.values():
            if shard not in fit:
                self._ray.kill(shard.actor, no_restart=True)
        self._shards = fit
        if not fit:
            raise PreflightError(
                "no node of the Ray cluster can take part in the rollout",
                cause=f"none had a CPU free, and started a process, within {within:g}s",
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
