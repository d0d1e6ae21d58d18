"""Marks on disk and the ring of events, each alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from deployer.registry.feed import KEPT, KEPT_TASKS, Feed
from deployer.registry.marks import Marks, NotWritten
from deployer.registry.node import Mark


def node(tasks: int = 0) -> dict[str, Any]:
    return {"id": "n", "tasks": [{"id": "1"}] * tasks}


def test_end_of_a_mark_does_not_take_a_newer_one_along(tmp_path: Path) -> None:
    async def story() -> dict[str, Mark]:
        marks = Marks(tmp_path / "registry.db")
        old, new = Mark("push", 1.0, "process", "p1"), Mark("me", 2.0)
        await marks.put("n", old)
        await marks.put("n", new)
        await marks.drop("n", old)
        try:
            return marks.all()
        finally:
            marks.close()

    assert asyncio.run(story()) == {"n": Mark("me", 2.0)}


def test_mark_that_the_disk_took_too_late_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployer.registry.marks.PATIENCE", 0.05)

    async def story() -> dict[str, Mark]:
        marks = Marks(tmp_path / "registry.db")
        held = asyncio.Event()
        loop = asyncio.get_running_loop()
        slow = marks._thread.submit(lambda: asyncio.run_coroutine_threadsafe(held.wait(), loop).result(20))
        with pytest.raises(NotWritten, match="did not answer"):
            await marks.put("n", Mark("me", 1.0))
        held.set()
        await asyncio.wrap_future(slow)
        try:
            return await asyncio.to_thread(marks.all)
        finally:
            marks.close()

    assert asyncio.run(story()) == {}


def test_ring_keeps_the_last_events_and_not_all_their_tasks() -> None:
    feed = Feed(first=0)
    for _ in range(KEPT + 10):
        feed.publish("node.busy", node())
    assert feed.since(9) is None
    missed = feed.since(10)
    assert missed is not None and len(list(missed)) == KEPT
    for _ in range(KEPT_TASKS // 100 + 50):
        feed.publish("node.busy", node(tasks=100))
    last = feed.number - KEPT_TASKS // 100
    assert feed.since(last - 1) is None and feed.since(last) is not None
