"""In which order hosts are changed, and how many at once."""

from __future__ import annotations

from typing import Any

import pytest

from deployer.rollout.batches import Policy, batches, idle_first

HOSTS = [f"h{number}" for number in range(1, 9)]


@pytest.mark.parametrize(
    ("policy", "sizes"),
    [
        (Policy(canary=1, batch="25%"), [1, 2, 2, 2, 1]),
        (Policy(canary=0, batch="25%"), [2, 2, 2, 2]),
        (Policy(canary=2, batch=3), [2, 3, 3]),
        (Policy(canary=1, batch="100%"), [1, 7]),
        (Policy(canary=20, batch=1), [8]),
        (Policy(canary=0, batch="1%"), [1] * 8),
        (Policy(canary=0, batch=100), [8]),
    ],
)
def test_batches(policy: Policy, sizes: list[int]) -> None:
    made = batches(HOSTS, policy)
    assert [len(batch) for batch in made] == sizes
    assert [host for batch in made for host in batch] == HOSTS


def test_one_host_needs_no_canary_and_none_no_batch() -> None:
    assert batches(["h"], Policy()) == [["h"]]
    assert batches([], Policy()) == []


def facts(health: str = "ok", busy: Any = None, tasks: int = 0, running: bool = True) -> dict[str, Any]:
    return {"instance": {} if running else None, "health": {"health": health, "busy": busy, "tasks": [{}] * tasks}}


def test_idle_hosts_come_first_and_else_the_order_stays_as_written() -> None:
    found = {
        "busy": facts(busy=True), "silent": facts("timeout"), "idle": facts(), "two": facts(tasks=2),
        "idle2": facts(busy=False), "stopped": facts("none", running=False),
    }  # fmt: skip
    assert idle_first(found) == ["idle", "idle2", "stopped", "silent", "busy", "two"]
