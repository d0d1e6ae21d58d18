"""What hosts warn of: at once, and only once where many say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.many import FEW
from deployer.cli.render.steps import host_of


class Warned:
    """Says the first of each kind; at the end, which other hosts said the same."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._others: dict[str, list[str]] = {}

    def note(self, event: Mapping[str, Any], hosts: int) -> None:
        """Tell the warning *event* of a deploy on so many *hosts*."""
        words, host = str(event.get("text")), host_of(event)
        if hosts < 2 or not event.get("host"):
            self._warn(words)
        elif hosts <= FEW:
            self._warn(f"{host}: {words}")
        elif words in self._others:
            self._others[words].append(host)
        else:
            self._others[words] = []
            self._warn(f"{host}: {words}")

    def sum_up(self) -> None:
        for words, others in self._others.items():
            if others:
                self._warn(f"the same on {text.plural(len(others), 'more host')}, {text.names(others, 6)}: {words}")
        self._others = {}
