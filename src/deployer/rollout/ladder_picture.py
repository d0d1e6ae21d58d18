"""The timeout ladder as a picture in text: a rung on another, the outermost on top, at most 78 columns wide."""

from __future__ import annotations

from collections.abc import Sequence

from deployer.rollout.ladder import Rung, shown

WIDTH = 78
"""Columns: `doctor` sets it in by two, and a terminal has 80."""
_MARKS = {True: "  ", False: "!!", None: "??"}


def picture(rungs: Sequence[Rung]) -> str:
    """*rungs*, which come from the inside out, with who acts and where each is set; a mark at one that is out of order."""
    widest = max((len(shown(rung.seconds)) for rung in rungs), default=0)
    return "\n".join(line for rung in reversed(rungs) for line in _lines(rung, widest))


def _lines(rung: Rung, widest: int) -> list[str]:
    rails = f"|{'-' * (widest + 2)}|"
    hosts = f" on {', '.join(rung.hosts)}" if rung.hosts else ""
    told = f"{rung.acts}; {rung.where}{hosts}"
    lines = [f"|{shown(rung.seconds):>{widest + 1}} |  {rung.name}", f"{rails}    {told}"]
    if rung.fault:
        lines.insert(1, f"|{_MARKS[rung.ok]:>{widest + 1}} |    <- {rung.fault.removeprefix(f'{rung} ')}")
    return [line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in lines]
