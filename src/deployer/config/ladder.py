"""
The timeout ladder: what is inside must give up before what is outside.

`drain.longest_task < drain.app_grace < drain.ceiling`, of the rungs that are set, and then each outer layer that a
caller knows of (systemd's TimeoutStopSec, launchd's ExitTimeOut): whoever may kill must wait longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from deployer import durations
from deployer.errors import UsageError


@dataclass(frozen=True)
class Rung:
    """One time limit, by the name under which a person can change it; *seconds* long."""

    name: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name} = {durations.show(self.seconds)}"


def fault(rungs: Sequence[Rung]) -> tuple[Rung, Rung] | None:
    """The first two neighbours, from the inside out, of which the outer does not outlast the inner."""
    return next(((inner, outer) for inner, outer in pairwise(rungs) if not inner.seconds < outer.seconds), None)


def sentence(inner: Rung, outer: Rung) -> str:
    """What is wrong between two rungs, with both names and values."""
    return f"{outer} does not outlast {inner}"


def check(rungs: Sequence[Rung]) -> None:
    """Return when *rungs*, from the inside out, rise strictly; UsageError naming two that do not otherwise."""
    found = fault(rungs)
    if found:
        inner, outer = found
        raise UsageError(
            "the timeout ladder does not rise",
            cause=sentence(inner, outer),
            hint=f"raise {outer.name} above {durations.show(inner.seconds)}, or lower {inner.name}",
        )
