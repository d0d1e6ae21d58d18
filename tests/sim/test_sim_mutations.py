"""The simulation can fail: every planted bug breaks a promise in a schedule that passes without it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sim_mutations import MUTATIONS, Mutation
from sim_schedule import Result, drawn, play

SEARCHED = 400
"""Seeds looked through from a mutation's own on: a change of the engine moves the effects, and with them the right seed."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_planted_bug_is_caught(mutation: Mutation) -> None:
    caught = next(_caught(mutation), None)
    assert caught is not None, f"no seed from {mutation.seed} on breaks {mutation.promise!r}"
    print(f"{mutation.name}: seed {caught.seed}: {caught.problems[0]}")
    assert play(caught.seed, keep_trace=False).problems == ()


def _caught(mutation: Mutation) -> Iterator[Result]:
    for seed in range(mutation.seed, mutation.seed + SEARCHED):
        drawn(seed)  # before it is planted: how far faults reach is measured on the sound engine
        with mutation.plant():
            result = play(seed, keep_trace=False)
        if any(problem.startswith(mutation.promise) for problem in result.problems):
            yield result
