"""Whatever dies whenever, in thousands of schedules of a simulated host: every promise holds at the end of each of them."""

from __future__ import annotations

import pytest
from sim_schedule import BESIDE, SYSTEMATIC, SYSTEMATIC_BESIDE, play, systematic
from sim_stories import OVERLAPS, STORIES

CHUNKS = 12
EACH_TIME = 6
"""Chunks of the twelve that every run of the tests plays; the others come with --full (docs/testing.md)."""
DRAWN = 4300
"""Schedules with one to four faults, drawn."""
DRAWN_BESIDE = 600
"""The same, of the stories of overlap."""
EVERY = 3
"""Of the walk through every effect with every kind of fault, each how-manieth is taken (all of it: replay.py)."""
EVERY_BESIDE = 31
"""The same, of the stories of overlap: a number that goes round all kinds of fault."""

every_chunk = pytest.mark.parametrize(
    "chunk", [*range(EACH_TIME), *(pytest.param(chunk, marks=pytest.mark.full) for chunk in range(EACH_TIME, CHUNKS))]
)


@every_chunk
def test_promises_hold_whatever_is_drawn(chunk: int) -> None:
    assert broken(range(chunk, DRAWN, CHUNKS)) == []


@every_chunk
def test_promises_hold_whatever_strikes_before_any_effect(chunk: int) -> None:
    assert len(systematic(STORIES)) // EVERY + DRAWN >= 10_000
    assert broken(range(SYSTEMATIC + chunk * EVERY, SYSTEMATIC + len(systematic(STORIES)), CHUNKS * EVERY)) == []


@every_chunk
def test_promises_of_an_overlap_hold_whatever_happens(chunk: int) -> None:
    assert broken(range(BESIDE + chunk, BESIDE + DRAWN_BESIDE, CHUNKS)) == []
    walk = len(systematic(OVERLAPS))
    assert (
        broken(range(SYSTEMATIC_BESIDE + chunk * EVERY_BESIDE, SYSTEMATIC_BESIDE + walk, CHUNKS * EVERY_BESIDE)) == []
    )


def broken(seeds: range) -> list[str]:
    """The schedules of *seeds* at whose end a promise does not hold: ten of them, each with the line that replays it."""
    failed = [result for result in (play(seed, keep_trace=False) for seed in seeds) if result.problems]
    return [
        f"PYTHONPATH=src:tests python tests/sim/replay.py {one.seed}  # {one.story.name}: {one.problems}"
        for one in failed[:10]
    ]
