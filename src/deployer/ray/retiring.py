"""The end of an old instance: no more calls, its own finished under the ceiling, stop(), cleanup(), and then its process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from deployer.ray.placed import Placed
from deployer.ray.record import Record

Json = Dict[str, Any]
TOLD_EVERY = 1.0


@dataclass
class End:
    """How a drain ended: clean, killed (`lost` are the calls in flight), or exited: it had gone by itself."""

    verdict: str = "clean"
    lost: List[Json] = field(default_factory=list)
    waited: float = 0.0
    closed: Optional[List[Any]] = None


async def retire(placed: Placed, record: Record, told: Any) -> End:
    """End *placed*; `told(name, end)` hears how before its process goes, so that a caller who asks has an answer."""
    end = await _drain(placed, record)
    if end.verdict != "exited":
        await _settled(placed, record)
        end.closed = await _closed(placed, record)
    told(placed.name, end)
    gone = await placed.kill()
    if not gone:
        record.event("warning", text=f"{placed.name}: Ray has not said that its process has gone")
    _tell(placed, record, end, gone)
    return end


async def _drain(placed: Placed, record: Record) -> End:
    ceiling, began = record.ceilings.get(placed.service) or float(placed.spec["ceiling"]), time.monotonic()
    about = {"service": placed.service, "pid": placed.pid, "release": placed.spec["release"]}
    try:
        left = await placed.quiet()
        record.event("drain.started", ceiling_s=ceiling, tasks=left, **about)
        while left and (spent := time.monotonic() - began) < ceiling:
            left = await placed.drained(max(0.0, min(TOLD_EVERY, ceiling - spent)))
            if left:
                record.event(
                    "drain.progress", elapsed_s=round(time.monotonic() - began, 3), ceiling_s=ceiling, health="none",
                    busy=len(left), tasks=left, processes=[], **about,
                )  # fmt: skip
    except Exception as error:  # Ray lost it: its node died, or its process did
        record.event("warning", text=f"{placed.name} had gone before it was drained: {type(error).__name__}")
        return End("exited", [], time.monotonic() - began)
    return End("killed" if left else "clean", left, time.monotonic() - began)


async def _settled(placed: Placed, record: Record) -> None:
    """A result that is lost with the process would make its call run a second time."""
    try:
        if not await placed.settled():
            record.event("warning", text=f"{placed.name}: not every caller has said that he has his result")
    except Exception as error:
        record.event("warning", text=f"{placed.name} went away after its last call: {type(error).__name__}")


async def _closed(placed: Placed, record: Record) -> Optional[List[Any]]:
    try:
        closed = await placed.close()
    except Exception as error:
        record.event("warning", text=f"{placed.name} went away in its clean-up: {type(error).__name__}")
        return None
    if closed[4]:
        record.event("warning", text=f"{placed.service}: {closed[4]}")
    return closed


def _tell(placed: Placed, record: Record, end: End, gone: bool) -> None:
    about = {"service": placed.service, "release": placed.spec["release"]}
    record.event(
        "drain.finished", verdict=end.verdict, exit_code=0 if end.verdict == "clean" else None, lost=end.lost,
        waited_s=round(end.waited, 3), pid=placed.pid, killed=[{"pid": placed.pid}] if end.verdict == "killed" else [],
        known=end.verdict != "exited", **about,
    )  # fmt: skip
    called, completed, _, seconds, error = end.closed or [False, False, False, 0.0, None]
    record.event(
        "service.stopped", initialized=True, cleanup_called=called, cleanup_completed=completed, running=not gone,
        seconds=round(seconds, 3), error=error, verdict=end.verdict, **about,
    )  # fmt: skip
