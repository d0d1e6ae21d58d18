"""
swap: a running service is replaced under a constant load, by deployer and by what people use for it today.

One load for all: an open loop of short requests, half on fresh and half on kept-alive connections, and slow ones of which
five are in flight at every switch. Whoever is not named takes part too; with --pushes only deployer, again and again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.figures import Grid, Table
from benchmarks.processes import progress
from benchmarks.swap import account, measure
from benchmarks.swap.measure import Seen
from benchmarks.swap.way import Missing
from benchmarks.swap.ways import IN_A_ROW, WAYS

RATE = 100.0
"""Short requests per second."""


def compare(scratch: Path, times: int, who: Sequence[str] = (), rate: float = RATE) -> list[Grid | Table]:
    """Every way replaced *times* times, in random order; then those with a broken release."""
    names = list(who or WAYS)
    swaps = _in_turn(names, lambda name: measure.replaced(name, scratch, times, rate))
    cases = [f"{name}/{how}" for name in names for how in WAYS[name].broken]
    broken = _in_turn(cases, lambda case: measure.broken(case.split("/")[0], scratch, case.split("/")[1], rate))
    tables = account.compared(f"swap · {rate:g} requests/s", swaps)
    return [*tables, *(account.broken(broken) if broken else [])]


def pushes(
    scratch: Path, times: int, who: Sequence[str] = (), rate: float = RATE, seconds: float | None = None
) -> list[Grid | Table]:
    """deployer in a row: *times* pushes on an inherited socket, a fifth of it behind each proxy; each no longer than *seconds*."""
    names = [name for name in who or IN_A_ROW if name in IN_A_ROW]
    counts = {name: max(1, round(times * IN_A_ROW[name])) for name in names}
    found = _in_turn(names, lambda name: measure.in_a_row(name, scratch, counts[name], rate, seconds))
    return account.compared(f"swap · pushes in a row, {rate:g} requests/s", found)


def _in_turn(names: Sequence[str], of: Callable[[str], Seen]) -> list[Seen]:
    """What *of* has seen of each, in the order of *names*, though measured in another; who is missing is told and left out."""
    found: dict[str, Seen] = {}
    for name in random.sample(list(names), len(names)):
        try:
            found[name] = of(name)
            progress(
                f"swap: {name}: {account.losses(found[name].swap)} lost, stall {account.stall(found[name].swap):,.0f} ms"
            )
        except Missing as reason:
            progress(f"swap: {name} is left out: {reason}")
    return [found[name] for name in names if name in found]
