"""Bugs that the simulation has found in the engine, each as the schedule that shows it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sim_faults import Fault
from sim_schedule import enact
from sim_stories import OVERLAPS, STORIES


@dataclass(frozen=True)
class Found:
    promise: str
    story: str
    faults: tuple[Fault, ...]
    seed: int = 0


def _f(kind: str, text: str, arg: float = 0.0, delay: float = 0.0) -> Fault:
    return Fault(kind, text=text, arg=arg, delay=delay)


FOUND = (
    Found(
        "an old process that exits between the look and the promise is not waited for",
        "push, idle",
        (_f("exit", "runner: ask: replace", 1.0), _f("stall", "runner: ask: replace", 0.05)),
    ),
    Found(
        "a service whose environment says nothing is not started twice",
        "push, env -i",
        (_f("disk full", "keeper: UPDATE instances SET state=? WHERE id=? running | i1", 1),),
    ),
    Found("nobody is called killed who was not", "push, deaf", (_f("exit", "SIGKILL", 1.0),)),
    Found(
        "a process that was never asked has its whole time, however late the keeper comes",
        "stop, deaf",
        (_f("all die", "runner: answered: replace"),),
        2,
    ),
    Found("a daemon is not started twice", "push, daemon", (_f("all die", "keeper: exec"),)),
    Found("a proven release is not torn down for a refused line", "push, idle", (_f("disk full", '"switched"', 1),)),
    Found(
        "what the keeper restarted in a revert is no old process to wait for",
        "push, exits",
        (_f("all die", '"revert.finished"'), _f("exit", '"revert.finished"', 1.0, 0.3)),
    ),
    Found(
        "what exits while the disk refuses is started at once",
        "push, exits",
        (_f("disk full", "keeper: UPDATE instances SET state=? WHERE id=? running | i1", 2),),
    ),
    Found(
        "no second SIGTERM after a refused line",
        "push, deaf",
        (_f("disk full", "keeper: signal 15", 1), _f("keeper dies", "keeper: signal 15", 0.0, 8.0)),
    ),
    Found(
        "whoever is killed now was asked before", "push, working for minutes", (_f("now", "runner: answered: replace"),)
    ),
    Found(
        "a zombie that takes the SIGKILL has not been killed",
        "restart",
        (_f("now", "runner: answered: replace"), _f("stall", "keeper: signal 9", 30.0)),
    ),
    Found("what was made quiet is started afresh", "push, quiet", (_f("disk full", "runner: signal 10", 1),)),
    Found(
        "a new instance whose environment says nothing is none of the old one's orphans",
        "overlap, env -i",
        (_f("now", '"drain.started"'),),
    ),
    Found(
        "what a new instance leaves behind in a crash is no drain of its deploy",
        "overlap, wrapper",
        (_f("exit", '"switched"', 1.0, 0.3), _f("engine dies", '"switched"', 0.0, 2.5)),
    ),
    Found(
        "what was started, and not written down as running, is dismissed all the same",
        "overlap, never ready and deaf",
        (_f("disk full", "keeper: exec", 2),),
    ),
)


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.promise)
def test_found_and_fixed(found: Found) -> None:
    story = next(story for story in (*STORIES, *OVERLAPS) if story.name == found.story)
    for seed in range(found.seed, found.seed + 8):
        result = enact(seed, story, list(found.faults))
        assert len(result.struck) == len(found.faults), "the story goes another way now"
        assert result.problems == (), result.trace
