"""
Whoever of the engine dies in an overlap, at no point is nobody listening: a short version of `scripts/faults overlap`.

Each push finds a task in flight and somebody who asks all the time.
"""

from __future__ import annotations

import pytest
from scenario import ends

from app import App

STARTING = "UPDATE instances SET pid"
RETIRED = "UPDATE instances SET state=? WHERE id=? draining"
SIGNALLING = "INSERT OR REPLACE INTO signals"


@pytest.mark.full
def test_runner_that_dies_in_an_overlap_is_followed_by_another_and_no_request_is_lost(shared: App) -> None:
    writes = [("launch done", False), ("retire begin", False), ("drain begin", False)]
    assert ends(shared, "runner", writes) == ["done"] * 3


def test_keeper_that_dies_in_an_overlap_is_followed_by_another_and_no_request_is_lost(shared: App) -> None:
    writes = [(RETIRED, False), (SIGNALLING, False), (STARTING, True)]
    assert ends(shared, "keeper", writes) == ["done", "done", "reverted"]


@pytest.mark.full
def test_when_everybody_dies_in_the_drain_the_next_status_resolves_it_and_no_request_is_lost(shared: App) -> None:
    assert ends(shared, "all", [("drain.started", False)]) == ["done"]
