"""How far a rollout is: each host's phase, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployer.cli.render import text

Event = Mapping[str, Any]

GOOD = ("done", "unchanged")
_PHASES = {
    "host.started": "preparing",
    "lock.waiting": "waiting for the lock",
    "upload.progress": "uploading",
    "stage.finished": "preparing",
    "drain.started": "draining",
    "drain.finished": "starting",
    "revert.started": "going back",
}
_TOLD = ("draining", "starting", "going back", "uploading", "preparing", "waiting for the lock")
_ENDED = ("failed", "reverted", "down", "unreachable", "lost", "detached")


@dataclass
class Tally:
    """Counts hosts by what they are doing; `where` is the canary, the batch or the bake that is under way."""

    phases: dict[str, str] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    where: str = ""

    def note(self, event: Event) -> None:
        """Take *event* in, whatever it is."""
        name, host = event.get("event"), str(event.get("host") or "")
        if name == "rollout.started":
            self._begin(event)
        elif name in ("batch.started", "bake.started"):
            self.where = _where(event)
        elif name == "host.finished":
            self.phases[host] = str(event.get("status"))
            self.away.discard(host)
        elif name == "link.lost":
            self.away.add(host)
        elif host:
            self.away.discard(host)
            self.phases[host] = _PHASES.get(str(name), self.phases.get(host, "preparing"))

    def _begin(self, event: Event) -> None:
        self.phases = {str(host): "waiting" for host in event.get("hosts") or []}
        for status in ("unchanged", "unreachable"):
            self.phases.update({str(host): status for host in event.get(status) or []})

    @property
    def size(self) -> int:
        return len(self.phases)

    def count(self, *phases: str) -> int:
        return sum(phase in phases for phase in self.phases.values())

    def text(self) -> str:
        """ "37/300 done · 4 draining · 1 failed · batch 2/5"."""
        counts = Counter(self.phases.values())
        parts = [f"{counts[phase]} {phase}" for phase in (*_TOLD, *_ENDED) if counts[phase]]
        links = f"{text.plural(len(self.away), 'link')} lost, the deploys go on" if self.away else None
        return text.joined(f"{self.count(*GOOD)}/{self.size} done", *parts, links, self.where)


def _where(event: Event) -> str:
    if event.get("event") == "bake.started":
        return f"watching for {text.took(event.get('seconds'))}"
    return "canary" if event.get("what") == "canary" else f"batch {event.get('batch')}/{event.get('of')}"
