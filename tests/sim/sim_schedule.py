"""From a seed to a schedule: which story, which faults; and what came of it."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from sim_faults import ARGUMENTS, DELAYS, KINDS, Fault
from sim_promises import broken
from sim_stories import OVERLAPS, STORIES, Story, begin, tell
from sim_world import Endless, World

from deployer.errors import LockedError
from deployer.host import handover, instance, overlap, ports, ready

BESIDE = 500_000
"""Seeds from here on draw from the stories of overlap; below, from the others."""
SYSTEMATIC = 1_000_000
"""Seeds from here on walk through every effect of every story, kind of fault by kind; below, everything is drawn."""
SYSTEMATIC_BESIDE = 2_000_000
"""The same for the stories of overlap."""
BEYOND = 1.3
"""Faults are drawn so far beyond the end of a story without faults: what follows a fault has effects of its own."""


@dataclass(frozen=True)
class Result:
    seed: int
    story: Story
    faults: tuple[Fault, ...]
    problems: tuple[str, ...]
    trace: str
    effects: int
    seconds: float
    struck: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.trace.encode()).hexdigest()


def drawn(seed: int) -> tuple[Story, list[Fault]]:
    """The story and the faults of *seed*."""
    dice = random.Random(seed * 7919 + 17)
    if seed >= SYSTEMATIC_BESIDE:
        return _systematic(systematic(OVERLAPS), seed - SYSTEMATIC_BESIDE, dice)
    if seed >= SYSTEMATIC:
        return _systematic(systematic(STORIES), seed - SYSTEMATIC, dice)
    story = dice.choice(OVERLAPS if seed >= BESIDE else STORIES)
    reach = int(length(story) * BEYOND)
    return story, [_fault(dice, dice.choice(list(KINDS)), dice.randint(1, reach)) for _ in range(dice.randint(1, 4))]


@functools.cache
def length(story: Story) -> int:
    """The effects of *story* when nothing goes wrong."""
    world = World(0, interleave=False)
    with in_this_world(world):
        tell(begin(world, story), story)
        effects = world.effects
        world.close()
    return effects


@functools.cache
def systematic(stories: tuple[Story, ...]) -> list[tuple[Story, str, int]]:
    """Every effect of every one of *stories*, with every kind of fault right before it."""
    return [(story, kind, at) for story in stories for at in range(1, length(story) + 1) for kind in KINDS]


def _systematic(walk: list[tuple[Story, str, int]], number: int, dice: random.Random) -> tuple[Story, list[Fault]]:
    story, kind, at = walk[number]
    return story, [_fault(dice, kind, at, delayed=False)]


def _fault(dice: random.Random, kind: str, at: int, delayed: bool = True) -> Fault:
    delay = dice.choice(DELAYS) if delayed else 0.0
    return Fault(kind, at, delay, dice.choice(ARGUMENTS.get(kind, (0.0,))))


def play(seed: int, keep_trace: bool = True) -> Result:
    """Run the schedule of *seed* and ask for the promises."""
    return enact(seed, *drawn(seed), keep_trace)


def enact(seed: int, story: Story, faults: list[Fault], keep_trace: bool = True) -> Result:
    """Run *story* with *faults*; *seed* decides about everything else: who is overtaken, when somebody looks."""
    world = World(seed, faults)
    problems: list[str] = []
    with in_this_world(world):
        host = begin(world, story)
        started = world.time
        try:
            tell(host, story)
        except Endless as error:
            problems.append(f"it ends: {error}")
        except Exception as error:  # nothing of the engine may let one out
            problems.append(f"it fails well: {error!r}")
        problems += broken(world, story)
        world.close()
    trace = world.trace() if keep_trace or problems else ""
    struck = tuple((where, fault.kind) for where, fault in world.struck)
    return Result(seed, story, tuple(faults), tuple(problems), trace, world.effects, world.time - started, struck)


class _Ids:
    """What uuid4 gives: the next number."""

    def __init__(self, world: World) -> None:
        world.ids += 1
        self.hex = f"i{world.ids}"


class _Notes:
    """Where the engine's complaints go: into the trace."""

    def __init__(self, world: World) -> None:
        self._world = world

    def write(self, text: str) -> int:
        if text.strip():
            self._world.note("stderr", text.strip())
        return len(text)

    def flush(self) -> None:
        pass


class _DrainLock:
    """Held by whoever acts now, to its death."""

    def __init__(self, world: World, path: Path) -> None:
        self._world = world
        self._deploy = path.stem.partition("-")[2]

    def acquire(self, who: dict[str, Any], wait: float) -> None:
        assert who["deploy"] == self._deploy and self._world.acting is not None
        if self._world.is_waited_for(self._deploy):
            raise LockedError("another runner waits for these drains")
        if self._deploy not in self._world.drain_locks and not self._world.disk.write():
            raise OSError(28, "No space left on device")
        self._world.drain_locks[self._deploy] = self._world.acting


@contextmanager
def in_this_world(world: World) -> Iterator[None]:
    """
    The few things that the engine has from elsewhere: ids, ports of this machine, stderr; and how often it looks while
    nothing happens (progress is stored nowhere), which would be most of the work of a schedule.
    """
    with (
        mock.patch.object(instance, "uuid4", lambda: _Ids(world)),
        mock.patch.object(ports, "ports_of", lambda pids: set()),
        mock.patch.object(handover, "PROGRESS_EVERY", 300.0),
        mock.patch.object(overlap, "LOOK_EVERY", 300.0),
        mock.patch.object(overlap, "DeployLock", lambda path: _DrainLock(world, path)),
        mock.patch.object(ready, "FIRST_DELAY", 0.3),
        redirect_stderr(_Notes(world)),
    ):
        yield
