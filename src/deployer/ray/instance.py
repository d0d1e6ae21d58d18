"""The Ray actor around one instance of a service. Nothing secret is in what Ray knows of it: values come with the first word."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from typing import Any, Dict, List, Optional

from deployer.jobs.cluster import require
from deployer.ray.resident import Resident
from deployer.ray.words import CALLS, CONTROLS, DIRECTORY
from deployer.wire.redaction import Redactor

Json = Dict[str, Any]


class Instance:
    """`spec` is what the directory made of the release; an instance remembers what a directory may forget."""

    def __init__(self, spec: Json) -> None:
        self._spec = spec
        self._secrets: Optional[Dict[str, str]] = None
        self._admitted = False
        self._resident = Resident(spec["name"], spec["class"], spec["ray"]["max_concurrency"])
        if _brought_back():
            threading.Thread(target=_ask_for_life, args=(spec,), daemon=True).start()

    async def begin(self, secrets: Dict[str, str]) -> Json:
        """Build the service. `trouble` is why it could not be; the values of *secrets* are not in it."""
        if self._resident.state != "new":  # asked twice: by a directory that came back, and by our own wish to live
            await self.begun(self._spec["ready_within"])
            return {"trouble": self._resident.trouble, "pid": os.getpid()}
        self._secrets = secrets
        os.environ.update({**self._spec["env"], **secrets, **_ours(self._spec)})
        trouble = await self._resident.build(self._spec["health_interval"])
        return {"trouble": Redactor(secrets).text(trouble) if trouble else None, "pid": os.getpid()}

    async def begun(self, within: float) -> bool:
        """Whether it has been built, or could not be, before *within* seconds have passed."""
        return await asyncio.get_running_loop().run_in_executor(None, self._resident.begun, within)

    async def call(self, ident: str, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._resident.on_its_way(ident, await self._resident.call(ident, method, args, kwargs))

    async def heard(self, ident: str) -> None:
        """The caller has the result of *ident*, which was a `Last` one."""
        self._resident.heard(ident)

    async def admit(self) -> None:
        """The service's name is ours from now on."""
        self._admitted = True

    async def observe(self) -> Json:
        """How it stands, for a person and for a directory that has forgotten; never a secret."""
        resident = self._resident
        trouble = Redactor(self._secrets or {}).text(resident.trouble) if resident.trouble else None
        return {
            "spec": self._spec, "state": resident.state, "admitted": self._admitted, "pid": os.getpid(),
            "trouble": trouble, "tasks": resident.in_flight(), "node": _node(),
        }  # fmt: skip

    async def secrets(self) -> Optional[Dict[str, str]]:
        """The values that it was begun with; None before that."""
        return self._secrets

    async def quiet(self) -> List[Json]:
        return self._resident.quiet()

    async def drained(self, within: float) -> List[Json]:
        return await asyncio.get_running_loop().run_in_executor(None, self._resident.drained, within)

    async def settled(self, within: float) -> bool:
        """Whether no reply is on its way any more, before *within* seconds have passed."""
        return await asyncio.get_running_loop().run_in_executor(None, self._resident.settled, within)

    async def close(self, timeout: float) -> List[Any]:
        """stop() and cleanup(): the fields of `Closed`."""
        closed = await asyncio.get_running_loop().run_in_executor(None, self._resident.close, timeout)
        error = Redactor(self._secrets or {}).text(closed.error) if closed.error else None
        return list(closed._replace(error=error))

    async def end(self) -> None:
        """Never answers: it fails when this process has gone."""
        await asyncio.Event().wait()


def create(spec: Json) -> Any:
    """A new detached actor for *spec*; Ray brings it back when its node is lost, until somebody kills it for good."""
    ray = require()
    ray.method(concurrency_group="calls")(Instance.call)  # marks it: calls never keep a control word waiting
    wanted = {
        name: spec["ray"][name] for name in ("num_cpus", "num_gpus", "resources", "memory") if spec["ray"].get(name)
    }
    actor = ray.remote(concurrency_groups={"calls": CALLS})(Instance)
    return actor.options(
        name=spec["name"], namespace=spec["app"], lifetime="detached", max_restarts=-1, max_concurrency=CONTROLS,
        runtime_env=spec["runtime_env"], **{"num_cpus": 0, **wanted},
    ).remote(spec)  # fmt: skip


def _brought_back() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own property uses what Ray deprecates
        return bool(require().get_runtime_context().was_current_actor_reconstructed)


def _ask_for_life(spec: Json) -> None:
    """Brought back by Ray: the secrets of the first life are gone with it, and the directory has them."""
    ray = require()
    directory = ray.get_actor(DIRECTORY, namespace=spec["app"])
    ray.get(directory.begin_again.remote(spec["name"]))


def _ours(spec: Json) -> Dict[str, str]:
    return {"DEPLOYER_APP": spec["app"], "DEPLOYER_RELEASE": spec["release"], "DEPLOYER_INSTANCE": spec["name"]}


def _node() -> str:
    return str(require().get_runtime_context().get_node_id())
