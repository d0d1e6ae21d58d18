"""
The directory of one app: a small detached actor that knows which instance has which name, and carries out deploys.

It lives wherever Ray puts it and comes back when its node is lost; what it knew it then asks the instances.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, Dict, Optional, Set

from deployer.errors import FailedError
from deployer.jobs.cluster import require
from deployer.ray.deploying import Names, after_switch, deploy, stop
from deployer.ray.placed import Placed
from deployer.ray.record import Record
from deployer.ray.recovering import recover

Json = Dict[str, Any]
KEPT = 20
HEARD_WITHIN = 10.0
"""Seconds that the directory of a stopped app waits for its client to read the end."""
WORTH_WAITING = 30.0


class Directory:
    """Every answer is plain data and actor handles. Only one deploy is under way at a time."""

    def __init__(self, app: str, engine: str) -> None:
        self._app = app
        self._engine = engine
        self._life = uuid.uuid4().hex
        self._names = Names()
        self._records: Dict[str, Record] = {}
        self._under_way: Optional[Record] = None
        self._knowing: Optional["asyncio.Future[None]"] = None
        self._tasks: Set["asyncio.Future[None]"] = set()  # asyncio itself forgets a task that nobody holds
        require().get_runtime_context().current_actor.know.remote()

    async def know(self) -> str:
        """What the instances can tell is known; which engine answers here."""
        if self._knowing is None:
            self._knowing = asyncio.ensure_future(self._recover())
        await asyncio.shield(self._knowing)
        return self._engine

    async def _recover(self) -> None:
        found = await recover(self._app, self._names)
        for record in found.records:
            self._keep(record)
        if found.resumed is not None:
            self._under_way = found.resumed
            self._carry_out(found.resumed, after_switch(self._names, found.resumed, found.old))

    async def resolve(
        self, service: str, deploy: Optional[str] = None, stale: Optional[str] = None, dead: Optional[str] = None,
        ident: Optional[str] = None,
    ) -> Json:  # fmt: skip
        """
        `actor`, `name`: who takes calls to *service*; `error`: why nobody does; `lost`: call *ident* to *dead* was begun there.

        *stale* refused a call: where it is still the one that serves, it is being built again, and this waits for it.
        """
        await self.know()
        if dead is not None and self._is_lost(dead, ident):
            return {"lost": True}
        one = self._find(service, deploy)
        if one is None:
            known = ", ".join(self._names.serving) or "none"
            return {"error": f"{self._app} has no service {service} on this cluster; it has: {known}"}
        if one.name == stale and not await _is_back(one):
            return {"error": f"{service} was lost and is not back after {WORTH_WAITING:g} s; see `deployer status`"}
        return {"actor": one.actor, "name": one.name}

    def _find(self, service: str, deploy: Optional[str]) -> Optional[Placed]:
        fresh = self._names.fresh.get(service)
        if fresh is not None and fresh.spec["deploy"] == deploy:
            return fresh
        return self._names.serving.get(service)

    def _is_lost(self, name: str, ident: Optional[str]) -> bool:
        end = self._names.ended.get(name)
        if end is None or end.verdict == "exited":
            return True  # not an end of ours: whether it was begun there, nobody can say
        return any(call["id"] == ident for call in end.lost)

    async def free(self, within: float) -> bool:
        """Whether no deploy is under way any more, before *within* seconds have passed."""
        await self.know()
        return self._under_way is None or await self._under_way.ended(within)

    async def push(self, order: Json, secrets: Dict[str, str]) -> Json:
        """Carry *order* out, whatever becomes of who asked; or `behind`: what is under way, at once: who waits does so himself."""
        await self.know()
        if self._under_way is not None and not self._under_way.finished:
            return {"behind": self._under_way.to_json()}
        record = Record(order["deploy"], order["kind"], order["who"], order["release"])
        record.ceilings = order["ceilings"]
        self._under_way = record
        self._keep(record)
        self._carry_out(record, self._ordered(order, record, secrets))
        return {"behind": None}

    async def _ordered(self, order: Json, record: Record, secrets: Dict[str, str]) -> None:
        names = self._names
        if order["kind"] == "stop":
            await stop(names, record)
            self._carry_out(record, self._leave(record))
        elif order["kind"] == "restart":
            serving = list(names.serving.values())
            specs = [{**one.spec, **order["again"], "name": f"{one.service}#{record.deploy}"} for one in serving]
            await deploy(names, record, specs, serving[0].secrets if serving else {})
        else:
            await deploy(names, record, order["specs"], secrets)

    def _carry_out(self, record: Record, work: Any) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # a bug of ours must not leave a deploy under way for ever
                if not record.finished:
                    failed = FailedError("the deploy could not go on", cause=f"{type(error).__name__}: {error}")
                    record.finish("failed", 1, self._names.release(), failed.to_json())

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _leave(self, record: Record) -> None:
        """An app that is stopped leaves nothing behind, its directory included."""
        for _ in range(int(HEARD_WITHIN)):
            if record.heard:
                break
            await asyncio.sleep(1.0)
        if self._under_way is record and not self._names.serving:
            ray = require()
            ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    async def events(self, deploy: str, life: str, seen: int, within: float) -> Optional[Json]:
        """`events` of *deploy* after the first *seen* of this `life`; None for a deploy that is not known here."""
        await self.know()
        record = self._records.get(deploy)
        if record is None:
            return None
        return {"life": self._life, "events": await record.after(seen if life == self._life else 0, within)}

    async def begin_again(self, name: str) -> None:
        """An instance that Ray brought back on another node asks for its secrets."""
        await self.know()
        one = next((one for one in self._names.serving.values() if one.name == name), None)
        if one is not None:
            await one.begin(float(one.spec["ready_within"]))

    async def observe(self) -> Json:
        """What serves, what leaves, what is under way."""
        await self.know()
        names = self._names
        serving, leaving = list(names.serving.values()), list(names.leaving.values())
        seen = await asyncio.gather(*(_seen(one) for one in [*serving, *leaving]))
        under_way = self._under_way if self._under_way is not None and not self._under_way.finished else None
        return {
            "engine": self._engine, "services": seen[: len(serving)], "leaving": seen[len(serving) :],
            "under_way": under_way.to_json() if under_way else None,
        }  # fmt: skip

    def _keep(self, record: Record) -> None:
        self._records[record.deploy] = record
        for old in list(self._records)[:-KEPT]:
            del self._records[old]


async def _is_back(one: Placed) -> bool:
    try:
        return bool(await one.actor.begun.remote(WORTH_WAITING))
    except Exception:
        return False  # lost again


async def _seen(one: Placed) -> Json:
    try:
        return await one.observe(5.0)
    except Exception as error:
        return {
            "spec": one.spec, "state": "lost", "admitted": True, "pid": None, "tasks": [], "node": None,
            "trouble": f"it does not answer: {type(error).__name__}",
        }  # fmt: skip
