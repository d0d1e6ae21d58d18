"""
An abort, and random stories of people and faults, with real processes: short versions of `scripts/faults abort` and `--chaos`.
"""

from __future__ import annotations

import chaos
import pytest
from scenario import ends

from app import App


@pytest.mark.full
def test_abort_before_the_old_process_was_asked_to_stop_leaves_it_alone(served: App) -> None:
    writes = [("stage begin", False), ("install instance", False), ("check begin", True)]
    assert ends(served, "abort", writes) == ["failed"] * 3


def test_abort_after_the_promise_brings_the_old_release_back(served: App) -> None:
    writes = [("replace begin", False), ("drain.started", False), ("ready begin", False), ("ready begin", True)]
    assert ends(served, "abort", writes) in ([first, *["reverted"] * 3] for first in ("reverted", "failed"))


@pytest.mark.full
def test_abort_is_kept_when_the_runner_that_was_asked_dies(served: App) -> None:
    writes = [("check begin", False), ("drain.started", False)]
    assert ends(served, "abort+runner", writes) == ["failed", "reverted"]


@pytest.mark.full
@pytest.mark.parametrize("seed", [1014, *(pytest.param(seed, marks=pytest.mark.full) for seed in (2001, 2014))])
def test_random_stories_end_well(app: App, seed: int) -> None:
    app.configure(drain=chaos.DRAIN)
    app.push()
    for number in range(2):
        story = chaos.play(app, seed + number)
        assert not story.problems, chaos.describe(story)
