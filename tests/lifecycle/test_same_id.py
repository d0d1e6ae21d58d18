"""Two processes under one id: the newer one has it, the older one gets it back when the newer one goes, and never takes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app import wait_until
from deployer.lifecycle.node import NodeAgent
from lifecycle.real_registry import RealRegistry, real_registry


@pytest.fixture
def registry() -> Iterator[RealRegistry]:
    with real_registry() as found:
        yield found


def release(registry: RealRegistry) -> str | None:
    node = registry.node("node-1")
    return node["release"] if node and node["status"] == "online" else None


def test_the_newer_process_has_the_id_until_it_goes(registry: RealRegistry) -> None:
    older, newer = (
        NodeAgent(registry.ws, id="node-1", pools=["workers"], release=release, aside="200ms")
        for release in ("old", "new")
    )
    older.start()
    assert older.wait_online()
    newer.start()
    wait_until(lambda: release(registry) == "new", what="the newer one has the id")
    wait_until(lambda: len(registry.events) == 2, what="that was told")
    wait_until(lambda: not older.online, what="the older one was told")
    assert newer.online and not older.wait_online("1s")
    assert release(registry) == "new"
    assert len(registry.events) == 2  # who asks in vain is no news
    newer.stop()
    wait_until(lambda: release(registry) == "old", what="the older one is back")
    assert registry.pool("workers") == ["node-1"]
    older.stop()
    assert registry.pool("workers") == []
