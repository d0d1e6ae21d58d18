"""A drain under way, where nothing can be redrawn: a line now and then, so that a CI log stays short."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deployer.cli.render import drain, text
from deployer.cli.render.lines import Layout, Line

# A drain shorter than the first is not worth a line; after the last, one line every 30 s.
_FIRST_S = (0.3, 2.0, 5.0, 15.0)
_EVERY_S = 30.0


class Progress:
    """Says how a drain goes after 0.3, 2, 5 and 15 seconds, then every 30."""

    def __init__(self, line: Callable[[str], None], layout: Layout) -> None:
        self._line = line
        self._layout = layout
        self._next: dict[str, float] = {}

    def show(self, event: Mapping[str, Any], pid: object) -> None:
        host, elapsed = str(event.get("host") or "local"), float(event.get("elapsed_s") or 0)
        if elapsed < self._next.get(host, _FIRST_S[0]):
            return
        self._next[host] = _after(elapsed)
        detail = text.joined(f"of {text.took(event.get('ceiling_s'))}", drain.in_progress(event, pid))
        self._line(self._layout.text(Line(host, "drain", "...", text.took(elapsed), detail)))

    def end(self, host: str) -> None:
        self._next.pop(host, None)

    def line(self, words: str) -> None:
        self._line(words)

    def close(self) -> None:
        """Nothing is open."""


def _after(elapsed: float) -> float:
    """When the next line is due."""
    later = [moment for moment in _FIRST_S if moment > elapsed]
    return later[0] if later else (elapsed // _EVERY_S + 1) * _EVERY_S
