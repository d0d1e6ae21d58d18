"""Figures: the samples of one thing, their middle and spread, and the goal that they are held against."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """Samples of *name* in *unit*; `goal` is the most that their median may be."""

    name: str
    samples: Sequence[float]
    unit: str = "ms"
    goal: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def middle_half(self) -> tuple[float, float]:
        """The first and the third quartile: half of the samples lie between them."""
        if len(self.samples) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, high

    @property
    def ok(self) -> bool:
        return self.goal is None or self.median <= self.goal

    def cells(self) -> list[str]:
        """The line of the table: name, median, middle half, range, goal."""
        low, high = self.middle_half
        goal = "" if self.goal is None else f"<= {_short(self.goal)} {self.unit}  {'met' if self.ok else 'MISSED'}"
        return [
            self.name,
            f"{_short(self.median)} {self.unit}",
            f"{_short(low)} - {_short(high)}",
            f"{_short(min(self.samples))} - {_short(max(self.samples))}",
            goal,
        ]

    def to_json(self) -> dict[str, Any]:
        low, high = self.middle_half
        return {
            "name": self.name, "unit": self.unit, "median": self.median, "middle_half": [low, high], "goal": self.goal,
            "ok": self.ok, "samples": list(self.samples),
        }  # fmt: skip


@dataclass
class Table:
    """Figures that were measured in turns, under one title."""

    title: str
    figures: list[Figure] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [["", "median", "middle half", "range", "goal"], *(figure.cells() for figure in self.figures)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [_line(row, widths) for row in rows]
        return "\n".join([self.title, *lines])

    def to_json(self) -> dict[str, Any]:
        return {"title": self.title, "figures": [figure.to_json() for figure in self.figures]}


@dataclass
class Grid:
    """Cells that are no samples: what happened, in a row for each. `raw` is what --json gives instead."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    raw: Sequence[Any]
    figures: Sequence[Figure] = ()

    def __str__(self) -> str:
        rows = [self.head, *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self.head))]
        return "\n".join([self.title, *(_line(row, widths) for row in rows)])

    def to_json(self) -> dict[str, Any]:
        return {"title": self.title, "rows": list(self.raw)}


def _line(row: Sequence[str], widths: list[int]) -> str:
    name, *cells = row
    numbers = [cell.rjust(width) for cell, width in zip(cells[:-1], widths[1:-1], strict=True)]
    return "  ".join([" ", name.ljust(widths[0]), *numbers, cells[-1]]).rstrip()


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"
