"""
swap: a running service is replaced under a constant load, by deployer and by what people use for it today.

One load for all: an open loop of short requests, half on fresh and half on kept-alive connections, and slow ones of which
five are in flight at every switch. Whoever is not named takes part too; with --pushes only deployer, again and again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.figures import Figure, Grid, Table
from benchmarks.processes import progress
from benchmarks.swap import account, measure
from benchmarks.swap.measure import Seen
from benchmarks.swap.way import Missing
from benchmarks.swap.ways import IN_A_ROW, WAYS

RATE = 100.0
"""Short requests per second."""


def compare(scratch: Path, times: int, who: Sequence[str] = (), rate: float = RATE) -> list[Grid | Table]:
    """Every way replaced *times* times, in random order; then those with a broken release."""
    names, failed = list(who or WAYS), list[str]()
    swaps = _in_turn(names, lambda name: measure.replaced(name, scratch, times, rate), failed)
    cases = {f"{name}, {how}": (name, how) for name in names for how in WAYS[name].broken}
    broken = _in_turn(list(cases), lambda case: measure.broken(cases[case][0], scratch, cases[case][1], rate), failed)
    tables = account.compared(f"swap · {rate:g} requests/s", swaps)
    return [*tables, *(account.broken(broken) if broken else []), *_not_measured(failed)]


def pushes(
    scratch: Path, times: int, who: Sequence[str] = (), rate: float = RATE, seconds: float | None = None
) -> list[Grid | Table]:
    """deployer in a row: *times* pushes on an inherited socket, a fifth of it behind each proxy; each no longer than *seconds*."""
    names, failed = [name for name in who or IN_A_ROW if name in IN_A_ROW], list[str]()
    counts = {name: max(1, round(times * IN_A_ROW[name])) for name in names}
    found = _in_turn(names, lambda name: measure.in_a_row(name, scratch, counts[name], rate, seconds), failed)
    return [*account.compared(f"swap · pushes in a row, {rate:g} requests/s", found), *_not_measured(failed)]


def _in_turn(names: Sequence[str], of: Callable[[str], Seen], failed: list[str]) -> list[Seen]:
    """
    What *of* has seen of each, in the order of *names*, though measured in another.

    Who is missing is left out. Whose measuring fails is noted in *failed*: what was seen of the others is not thrown away.
    """
    found: dict[str, Seen] = {}
    for name in random.sample(list(names), len(names)):
        try:
            found[name] = one = of(name)
            progress(f"swap: {name}: {account.losses(one.swap)} lost, stall {account.stall(one.swap):,.0f} ms")
        except Missing as reason:
            progress(f"swap: {name} is left out: {reason}")
        except SystemExit as error:
            progress(f"swap: {name} was not measured: {error}")
            failed.append(name)
    return [found[name] for name in names if name in found]


def _not_measured(failed: Sequence[str]) -> list[Table]:
    figures = [Figure(f"{name}: not measured", [1], "", 0) for name in failed]
    return [Table("swap · failed", figures)] if figures else []
