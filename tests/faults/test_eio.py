"""
A disk that answers EIO, once: to an fsync (SQLite's too), to a rename; at the agent, the runner, the keeper. strace injects it.

A short version of `scripts/faults --disk`, which lets every such call of every part fail in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from points import instrumented
from scenario import prepare
from traced import require_strace, run, traceable

from app import App

SAMPLE = {
    "agent": [("fsync", 2), ("fsync", 14), ("rename", 3)],
    "runner": [("fsync", 2), ("fsync", 9), ("rename", 1)],
    "keeper": [("fsync", 1), ("fsync", 6), ("fsync", 8)],
}


@pytest.fixture
def traced(app: App, tmp_path: Path) -> Iterator[App]:
    """An app whose first release serves, and whose engine can be traced."""
    require_strace()
    engine = instrumented(tmp_path)
    traceable(engine)
    prepare(app, engine)
    yield app


@pytest.mark.parametrize("role", SAMPLE)
def test_call_that_fails_costs_neither_the_service_nor_the_record(traced: App, role: str) -> None:
    for call, number in SAMPLE[role]:
        made = run(traced, role, call, number)
        assert made.reached, f"the {role} makes fewer calls of {call} than {number}"
        assert made.problems == []
