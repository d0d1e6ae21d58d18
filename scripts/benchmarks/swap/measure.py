"""One way under one load: replaced some times, replaced by a broken release, or pushed many times in a row."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import progress
from benchmarks.swap.deployer import Deployer, Push
from benchmarks.swap.traffic import Traffic, traffic
from benchmarks.swap.way import BROKEN, SLOW, Told, Way, who_answers
from benchmarks.swap.ways import WAYS, opened

WARM_UP = SLOW + 1.0
"""Seconds until as many slow requests are in flight as there will be."""
STEADY = 10.0
STEADY_FOR_A_ROW = 60.0
"""Seconds of the service at rest, next to some 40, and next to minutes of pushes: of more time the worst is worse."""
SETTLE = 1.5
"""Seconds after each replacement that still belong to it."""
AFTERMATH = 8.0
"""Seconds after a tool has told of a broken release, in which it may still bring the old one back."""


@dataclass(frozen=True)
class Seen:
    """What the load saw of *name* (`load`: all it printed), what the tool told, and how busy the machine was."""

    name: str
    load: dict[str, Any]
    told: Sequence[Told]
    busy: float
    after: str = ""
    how: str = ""

    @property
    def swap(self) -> dict[str, Any]:
        phase: dict[str, Any] = self.load["phases"]["swap"]
        return phase

    @property
    def steady(self) -> dict[str, Any]:
        phase: dict[str, Any] = self.load["phases"]["steady"]
        return phase


def replaced(name: str, scratch: Path, times: int, rate: float) -> Seen:
    """Replaced *times* times, one after the other has gone."""
    with opened(name, scratch / name) as way:
        way.begin("r0")
        with traffic(way.url, rate) as load:
            steady(load)
            told = []
            for number in range(1, times + 1):
                progress(f"swap: {WAYS[name].title}, {number} of {times}")
                told.append(way.replace(f"r{number}", {}))
                time.sleep(SETTLE)
            load.mark("end")
            return seen(name, way, load, told, releases=times + 1)


def broken(name: str, scratch: Path, how: str, rate: float) -> Seen:
    """Replaced by a release that is broken in the way *how*."""
    progress(f"swap: {WAYS[name].title}, a release that is broken: {how}")
    with opened(name, scratch / f"{name}-{how.replace(' ', '-')}") as way:
        way.begin("r0")
        good = who_answers(way.url)
        with traffic(way.url, rate) as load:
            time.sleep(WARM_UP)
            load.mark("swap")
            told = way.replace("broken", BROKEN[how])
            time.sleep(AFTERMATH)
            now = who_answers(way.url)
            load.mark("end")
            after = "the old one serves" if now == good else "down" if now is None else f"{now} serves"
            return seen(name, way, load, [told], after=after, how=how)


def in_a_row(name: str, scratch: Path, times: int, rate: float, seconds: float | None) -> Seen:
    """Pushed *times* times (or for *seconds*), each as soon as the one before has asked its predecessor to stop."""
    with opened(name, scratch / f"{name}-row") as way:
        assert isinstance(way, Deployer)
        way.begin("r0")
        with traffic(way.url, rate) as load:
            steady(load, STEADY_FOR_A_ROW)
            pushes: list[Push] = []
            until = time.monotonic() + (seconds or float("inf"))
            while len(pushes) < times and time.monotonic() < until:
                pushes.append(way.push(f"r{len(pushes) + 1}"))
                pushes[-1].await_retire()
                if len(pushes) % 10 == 0:
                    progress(f"swap: {WAYS[name].title}, {len(pushes)} of {times} pushes")
            told = [push.told() for push in pushes]
            time.sleep(SETTLE)
            load.mark("end")
            return seen(name, way, load, told, releases=len(pushes) + 1)


def steady(load: Traffic, seconds: float = STEADY) -> None:
    """The service at rest, measured; what follows is `swap`."""
    time.sleep(WARM_UP)
    load.mark("steady")
    time.sleep(seconds)
    load.mark("swap")


def seen(
    name: str,
    way: Way,
    load: Traffic,
    told: Sequence[Told],
    releases: int | None = None,
    after: str = "",
    how: str = "",
) -> Seen:
    """The figures of *load*. SystemExit where it has not met *releases*: then something else was measured."""
    busy = os.getloadavg()[0]
    figures = load.stop()
    met = len(figures["releases"])
    if releases is not None and met != releases:
        raise SystemExit(f"bench: {WAYS[name].title} showed {met} releases of {releases}: {way.url} was not replaced")
    return Seen(name, figures, told, busy, after, how)
