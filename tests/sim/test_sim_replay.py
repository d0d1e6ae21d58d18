"""A schedule is its seed: nothing else, and nothing real, has a say in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sim_schedule import BESIDE, SYSTEMATIC, play

REPLAY = Path(__file__).with_name("replay.py")


@pytest.mark.parametrize("seed", [0, 3, 77, SYSTEMATIC + 1234, BESIDE + 17])
def test_same_seed_is_the_same_story_to_the_byte(seed: int) -> None:
    first, second = play(seed), play(seed)
    assert first.trace == second.trace and len(first.trace) > 1000


def test_another_process_with_another_hash_seed_replays_it_to_the_byte() -> None:
    told = [
        subprocess.run(
            [sys.executable, str(REPLAY), "5"], env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True
        )
        for salt in ("1", "2")
    ]
    assert told[0].stdout == told[1].stdout and len(told[0].stdout) > 1000


def test_other_seeds_are_other_stories() -> None:
    assert len({play(seed).digest for seed in range(20)}) == 20
