"""What a person still reads when there are many hosts: a row for each, or for what is alike on all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.paint import Paint

FEW = 12
"""Up to so many hosts each one tells all it has."""
SOME = 40
"""Up to so many hosts each one has a line of its own."""

Data = Mapping[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], paint: Paint) -> list[str]:
    """*rows* under *head*, each column as wide as its widest cell."""
    cells = [[text.one_line(cell, 80) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *cells)
    ]
    return [paint(lines[0], "dim"), *lines[1:]]


def answered(data: Data) -> list[Data]:
    """The hosts that could be asked; why the others could not is told on stderr."""
    return [host for host in data.get("hosts") or [] if not host.get("error")]


def named(hosts: Sequence[Data], name: object, paint: Paint) -> list[str]:
    """A host's name above what it says, where there is more than one."""
    return [paint(text.one_line(name, 60), "strong")] if len(hosts) > 1 else []


def counted(words: Sequence[object]) -> str:
    """ "298 done, 2 failed", the most frequent first."""
    return ", ".join(f"{count} {text.one_line(word, 40)}" for word, count in Counter(words).most_common())
