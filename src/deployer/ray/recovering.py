"""What a directory that comes back asks the instances, and what it makes of their answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from deployer.errors import FailedError
from deployer.jobs.cluster import require
from deployer.ray.deploying import UNTOUCHED, Names
from deployer.ray.placed import ANSWERS_WITHIN, Placed
from deployer.ray.record import Record
from deployer.ray.words import parts_of

Json = Dict[str, Any]


@dataclass
class Found:
    """The deploys that are known again; `resumed` has moved the names and still has *old* instances to end."""

    records: List[Record] = field(default_factory=list)
    resumed: Optional[Record] = None
    old: List[Placed] = field(default_factory=list)


@dataclass
class Seen:
    """An instance and what it says of itself."""

    placed: Placed
    told: Json

    @property
    def order(self) -> int:
        return int(self.told["spec"]["order"])


async def recover(app: str, names: Names) -> Found:
    """
    Fill *names* from the living instances. A deploy of which one instance was admitted goes forward; any later one is undone.

    An instance that does not answer is ended: nobody could call it either.
    """
    seen = await _everybody(app)
    admitted = [one for one in seen if one.told["admitted"]]
    newest = max((one.order for one in admitted), default=min((one.order for one in seen), default=0))
    found = Found()
    for one in sorted(seen, key=lambda one: one.order):
        if one.order > newest:
            await one.placed.kill()
            _undone(one, found)
        elif one.order == newest or one.placed.service not in {
            other.placed.service for other in seen if other.order == newest
        }:
            await _serves_again(one, names)
        else:
            found.old.append(one.placed)
            names.leaving[one.placed.name] = one.placed
    _resume(names, found, newest)
    return found


async def _everybody(app: str) -> List[Seen]:
    ray = require()
    named = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] == app]
    asked = await asyncio.gather(*(_ask(app, name) for name in named if parts_of(name)))
    return [one for one in asked if one is not None]


async def _ask(app: str, name: str) -> Optional[Seen]:
    ray = require()
    try:
        placed = Placed({"name": name}, ray.get_actor(name, namespace=app))
    except ValueError:
        return None  # gone since it was listed
    try:
        told = await placed.observe()
        placed.secrets = await asyncio.wait_for(_secrets(placed.actor), ANSWERS_WITHIN)
    except Exception:
        ray.kill(placed.actor, no_restart=True)
        return None
    placed.spec = told["spec"]
    return Seen(placed, told)


async def _secrets(actor: Any) -> Dict[str, str]:
    return await actor.secrets.remote() or {}


async def _serves_again(one: Seen, names: Names) -> None:
    """It has its name again; one that Ray brought back meanwhile is built, where its secrets are still known."""
    names.serving[one.placed.service] = one.placed
    await one.placed.admit()
    if one.told["state"] == "new" and set(one.placed.spec["secrets"]) <= set(one.placed.secrets):
        await one.placed.begin(float(one.placed.spec["ready_within"]))


def _undone(one: Seen, found: Found) -> None:
    spec = one.placed.spec
    if any(record.deploy == spec["deploy"] for record in found.records):
        return
    record = Record(spec["deploy"], "push", None, spec["release"])
    error = FailedError(
        "the node of this app's directory was lost in the middle of the push", state=UNTOUCHED, hint="push again"
    )
    record.finish("failed", error.code, None, error.to_json())
    found.records.append(record)


def _resume(names: Names, found: Found, newest: int) -> None:
    spec = next((one.spec for one in names.serving.values() if one.spec["order"] == newest), None)
    if spec is None:
        return
    record = Record(spec["deploy"], "push", None, spec["release"])
    found.records.append(record)
    if found.old:
        record.event(
            "resumed", text="the directory of this app was lost with its node, and goes on from what the instances know"
        )
        found.resumed = record
    else:
        record.finish("done", 0, names.release())
