"""One deploy, carried out beside the calls: all new instances are ready before the first name moves; then the old ones end."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Dict, Iterable, List, Optional

from deployer.errors import DeployerError, FailedError, GateError
from deployer.ray.placed import Placed, place
from deployer.ray.record import Record
from deployer.ray.retiring import End, retire

Json = Dict[str, Any]
KEPT = 1000
"""Ends that are remembered, for callers who had not heard of them."""
UNTOUCHED = "the old instances were not touched, and take every call"


class Names:
    """Which instance has which name, and how those ended that had it. What `serve` replaces is what it returns."""

    def __init__(self) -> None:
        self.serving: Dict[str, Placed] = {}
        self.fresh: Dict[
            str, Placed
        ] = {}  # ready, and without a name yet: their deploy's own services may ask for them
        self.ended: Dict[str, End] = {}
        self.leaving: Dict[str, Placed] = {}

    def serve(self, made: Iterable[Placed]) -> List[Placed]:
        """*made* take all names; in one step, since nothing else runs meanwhile."""
        old, self.serving, self.fresh = list(self.serving.values()), {one.service: one for one in made}, {}
        self.leaving.update({one.name: one for one in old})
        return old

    def told(self, name: str, end: End) -> None:
        self.ended[name] = end
        for old in list(self.ended)[:-KEPT]:
            del self.ended[old]
        self.leaving.pop(name, None)

    def release(self) -> Optional[str]:
        releases = sorted({str(one.spec["release"]) for one in self.serving.values()})
        return releases[-1] if releases else None


async def deploy(names: Names, record: Record, specs: List[Json], secrets: Dict[str, str]) -> None:
    """Bring the instances of *specs* in the place of all that serve. Every way out ends in `record.finish`."""
    made: List[Placed] = []
    try:
        for spec in specs:
            await _bring(names, record, made, spec, secrets)
        await _admit(made)
    except DeployerError as error:
        await asyncio.gather(*(_discard(one) for one in reversed(made)))
        names.fresh = {}
        record.finish("failed", error.code, names.release(), error.to_json())
        return
    await after_switch(names, record, names.serve(made))


async def after_switch(names: Names, record: Record, old: List[Placed]) -> None:
    """The names have moved: the *old* ones end, side by side, since each waits for its own calls only."""
    record.event("switched", services=sorted(names.serving))
    record.step = "drain"
    ends = await asyncio.gather(*(retire(one, record, names.told) for one in old))
    record.finish("done", 5 if any(end.verdict == "killed" for end in ends) else 0, names.release())


async def stop(names: Names, record: Record) -> None:
    """All services end, in reverse order: a later one may need an earlier one to finish its calls."""
    record.step = "drain"
    release, killed = names.release(), False
    for one in reversed(list(names.serving.values())):
        names.leaving[one.name] = names.serving.pop(one.service)
        killed = (await retire(one, record, names.told)).verdict == "killed" or killed
    record.finish("done", 5 if killed else 0, release)


async def _bring(names: Names, record: Record, made: List[Placed], spec: Json, secrets: Dict[str, str]) -> None:
    began = time.monotonic()
    record.step = f"start {spec['service']}"
    try:
        made.append(place(spec, secrets))
    except Exception as error:
        raise _gate(spec, f"{type(error).__name__}: {error}") from error
    trouble = await made[-1].begin(float(spec["ready_within"]))
    if trouble is not None:
        raise _gate(spec, trouble)
    names.fresh[spec["service"]] = made[-1]
    took, pid = round(time.monotonic() - began, 3), made[-1].pid
    record.event("start.finished", pid=pid, service=spec["service"])
    record.event("ready", pid=pid, probes=1, took_s=took, service=spec["service"])


async def _admit(made: List[Placed]) -> None:
    """All of them know that they serve: from here on a directory that comes back goes forward."""
    for one in made:
        trouble = await one.admit()
        if trouble is not None:
            raise FailedError(
                f"{one.service} was lost before it could serve", cause=trouble, state=UNTOUCHED, hint="push again"
            )


async def _discard(one: Placed) -> None:
    """End an instance that never had a name: what it has begun is cleaned up as far as it lets us."""
    try:
        await one.observe(2.0)
        await one.quiet()
        await one.close()
    except Exception:
        pass  # it is killed all the same
    await one.kill()


def _gate(spec: Json, cause: str) -> GateError:
    return GateError(
        f"{spec['service']} did not become ready on {spec['release']}", cause=cause, state=UNTOUCHED,
        hint="mend the release and push again",
    )  # fmt: skip
