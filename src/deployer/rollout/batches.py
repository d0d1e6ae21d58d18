"""In which order hosts are changed, and how many at once. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Policy:
    """`[target.X.rollout]`: `bake` in seconds; `batch` is a number of hosts or a share such as "25%"."""

    canary: int = 1
    batch: int | str = "25%"
    bake: float = 30.0
    max_failed: int = 0
    max_unreachable: int = 0
    on_failure: str = "revert"


def idle_first(facts: Mapping[str, Facts]) -> list[str]:
    """The hosts by how little work they have in progress, else as they were written: who is idle waits for nothing."""
    return sorted(facts, key=lambda host: _work(facts[host]))


def batches(hosts: Sequence[str], policy: Policy) -> list[list[str]]:
    """*hosts* cut into the canary and batches of equal size; a share is one of all of them, and at least one host."""
    canary = min(policy.canary, len(hosts)) if len(hosts) > 1 else 0
    size = batch_size(policy.batch, len(hosts))
    rest = hosts[canary:]
    first = [list(hosts[:canary])] if canary else []
    return first + [list(rest[start : start + size]) for start in range(0, len(rest), size)]


def batch_size(batch: int | str, hosts: int) -> int:
    if isinstance(batch, int):
        return batch
    return max(1, -(-hosts * int(batch.rstrip("%")) // 100))


def _work(facts: Facts) -> int:
    health = facts.get("health") or {}
    busy = health.get("busy")
    # What cannot be known may be busy: behind the idle ones, before those that say so.
    unknown = facts.get("instance") is not None and health.get("health") in (None, "none", "refused", "timeout")
    return max(len(health.get("tasks") or []), int(busy or 0)) * 2 + (1 if unknown else 0)
