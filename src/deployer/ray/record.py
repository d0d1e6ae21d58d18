"""What one deploy on the cluster has told so far, for whoever follows it, from wherever he was."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Dict, List, Optional

from deployer.ray.words import now

Event = Dict[str, Any]


class Record:
    """The events of one deploy; the last is `host.finished`."""

    def __init__(self, deploy: str, kind: str, who: Optional[str], release: Optional[str]) -> None:
        self.deploy = deploy
        self.kind = kind
        self.who = who
        self.release = release
        self.since = now()
        self.step = "prepare"
        self.events: List[Event] = []
        self.finished = False
        self.ceilings: Dict[str, float] = {}  # by service, for the old instances; else their own
        self.heard = False  # somebody has read the end
        self._began = time.monotonic()
        self._more = asyncio.Event()

    def event(self, name: str, **fields: Any) -> None:
        told = {"v": 1, "time": now(), "deploy": self.deploy, "event": name, "seq": len(self.events) + 1}
        self.events.append({**told, "release": self.release, **fields})
        self._more.set()
        self._more = asyncio.Event()

    def finish(self, status: str, code: int, release: Optional[str], error: Optional[Event] = None) -> None:
        """The last event. *release* is what serves now."""
        self.finished, self.step = True, "finished"
        more = {"error": error} if error else {}
        self.event("host.finished", status=status, exit_code=code, gap_ms=None, release=release, **more)

    async def after(self, seen: int, within: float) -> List[Event]:
        """The events after the first *seen*; none when *within* seconds bring none."""
        if len(self.events) <= seen and not self.finished:
            try:
                await asyncio.wait_for(self._more.wait(), within)
            except asyncio.TimeoutError:
                pass
        found = self.events[seen:]
        self.heard = self.heard or (self.finished and seen + len(found) >= len(self.events))
        return found

    async def ended(self, within: float) -> bool:
        """Whether it has ended before *within* seconds have passed."""
        until = time.monotonic() + within
        while not self.finished and time.monotonic() < until:
            await self.after(len(self.events), until - time.monotonic())
        return self.finished

    def to_json(self) -> Event:
        """As `under_way` of a status."""
        return {
            "deploy": self.deploy, "kind": self.kind, "who": self.who, "since": self.since, "step": self.step,
            "for_s": round(time.monotonic() - self._began, 1),
        }  # fmt: skip
