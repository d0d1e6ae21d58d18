"""What the last lines need to know of all the events before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployer.cli.render.standing import GOOD


@dataclass
class Course:
    """What a result needs to know of the events before it."""

    target: str = ""
    kind: str = "push"
    started: object = None
    gaps: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    on_record: str = ""
    recorded_by: str = ""
    killed: bool = False
    switched: bool = False
    reasons: dict[str, str] = field(default_factory=dict)

    def note(self, event: Mapping[str, Any]) -> None:
        if begins(event):
            self.kind, self.started = str(event.get("kind") or "push"), event.get("time")
        self.killed = self.killed or (event.get("event") == "drain.finished" and event.get("verdict") == "killed")
        self.switched = self.switched or event.get("event") == "switched"
        if isinstance(event.get("gap_ms"), int | float):
            self.gaps.append(event["gap_ms"])
        if event.get("event") == "host.finished" and event.get("seq"):  # numbered by the host: it has it on record
            self._recorded(event)
        if event.get("event") == "host.finished" and isinstance(event.get("error"), Mapping):
            self.reasons[str(event.get("host"))] = str(event["error"].get("title") or "")

    def _recorded(self, event: Mapping[str, Any]) -> None:
        if not self.on_record or event.get("status") not in GOOD:  # a deploy is best explained where it went wrong
            self.on_record, self.recorded_by = str(event.get("deploy") or ""), str(event.get("host") or "")


def begins(event: Mapping[str, Any]) -> bool:
    """Whether *event* opens a push, a rollback, a start, a stop or a restart."""
    return str(event.get("event")).endswith(".started") and "kind" in event and "app" in event


def is_result(event: Mapping[str, Any]) -> bool:
    """Whether *event* ends a push, a rollback, a start, a stop or a restart (`start.finished` is a step's name too)."""
    return str(event.get("event")).endswith(".finished") and "status" in event and isinstance(event.get("hosts"), list)
