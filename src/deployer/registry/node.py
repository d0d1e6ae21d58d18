"""One node as the registry knows it, a mark on it, and what can be told about it. Plain values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

ONLINE, DRAINING, OFFLINE = "online", "draining", "offline"
NODE, PROCESS = "node", "process"


class Moment(NamedTuple):
    """Now, on two clocks: `mono` measures, `wall` is for people (Unix seconds)."""

    mono: float
    wall: float


@dataclass(frozen=True, slots=True)
class Mark:
    """
    Somebody wants the node drained: it stays connected, but takes no work.

    Scope `node` lasts until it is taken away; `process` ends when another process than *instance* registers under the id.
    """

    by: str
    since: float
    scope: str = NODE
    instance: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"by": self.by, "since": iso(self.since), "scope": self.scope}

    def ended_by(self, instance: str) -> bool:
        return self.scope == PROCESS and self.instance != instance


@dataclass(frozen=True, slots=True)
class Work:
    """What a node is busy with, as its last message said."""

    busy: int = 0
    tasks: tuple[dict[str, Any], ...] = ()
    stuck_s: float | None = None

    def differs(self, other: Work) -> bool:
        """Whether somebody who watches should hear of it: a thing that is stuck gets older with every heartbeat."""
        return (self.busy, self.tasks, self.stuck_s is None) != (other.busy, other.tasks, other.stuck_s is None)


IDLE = Work()


@dataclass(frozen=True, slots=True)
class Process:
    """What a process says of itself when it registers; one that `yields` takes the id only if no other process has it."""

    instance: str
    pools: tuple[str, ...] = ()
    release: str | None = None
    capacity: int | None = None
    endpoint: str | None = None
    pid: int | None = None
    leaving: bool = False
    yields: bool = False
    work: Work = IDLE


NOBODY = Process(instance="")
"""Of a node that was marked before a restart of the registry, and has not come back yet."""


@dataclass(slots=True)
class Node:
    """A node and its present connection, if it has one. Only `Nodes` changes it."""

    id: str
    process: Process
    since: float
    connection: int | None = None
    address: str = ""
    leaving: bool = False
    mark: Mark | None = None
    work: Work = IDLE
    status: str = OFFLINE
    reason: str | None = None
    left_at: float = 0.0

    @property
    def standing(self) -> str:
        """What `status` must be, by everything that is known."""
        if self.connection is None:
            return OFFLINE
        return DRAINING if self.leaving or self.mark else ONLINE

    @property
    def load(self) -> float:
        return self.work.busy / (self.process.capacity or 1)

    def to_json(self) -> dict[str, Any]:
        process, work = self.process, self.work
        return {
            "id": self.id, "status": self.status, "pools": process.pools, "release": process.release, "busy": work.busy,
            "capacity": process.capacity, "since": iso(self.since), "reason": self.reason, "tasks": work.tasks,
            "instance": process.instance or None, "address": self.address or None,
            "endpoint": process.endpoint, "pid": process.pid,
            "drain": self.mark.to_json() if self.mark else None, "stuck_s": work.stuck_s,
        }  # fmt: skip


class Event(NamedTuple):
    """Something that happened to *node*, told as it was then."""

    name: str
    node: dict[str, Any]


def iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
