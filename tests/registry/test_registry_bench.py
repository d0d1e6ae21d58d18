"""The benchmark of the registry, with a few nodes: it runs, and what it promises holds by a wide margin."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from benchmarks.registry.run import measured


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads memory from /proc")
def test_node_costs_less_than_the_library_alone_and_is_missed_soon() -> None:
    ours, floor = (measured(server, 300, closes=20, seconds=0.5) for server in ("ours", "floor"))
    assert ours.memory <= 1.5 * floor.memory
    assert len(ours.noticed) == len(floor.noticed) == 20
    assert 0 < ours.percentile(0.5) < 1000
    assert 0 < ours.leave < 10_000
