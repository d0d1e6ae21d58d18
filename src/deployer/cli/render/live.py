"""A drain under way, on a terminal: a bar, the tasks with their ages, the processes still alive; redrawn in place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deployer.cli.output import Output
from deployer.cli.render import drain, text
from deployer.cli.render.lines import Layout, Line

if TYPE_CHECKING:
    from rich.live import Live

_WORTH_SHOWING_S = 0.3
_BAR = 12
_SHOWN = 4


@dataclass(frozen=True)
class Seen:
    """The last that was heard of a drain, and when (monotonic)."""

    event: Mapping[str, Any]
    pid: object
    at: float


class LiveProgress:
    """
    Redraws the drains under way below the lines that are already final.

    rich is imported when a drain has lasted 0.3 s, not before: an idle push never pays for it.
    """

    def __init__(self, out: Output, layout: Layout, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._layout = layout
        self._clock = clock
        self._seen: dict[str, Seen] = {}
        self._live: Live | None = None

    def show(self, event: Mapping[str, Any], pid: object) -> None:
        # A new dict each time: rich draws from a thread of its own.
        self._seen = {**self._seen, str(event.get("host") or "local"): Seen(event, pid, self._clock())}
        if self._live is None and float(event.get("elapsed_s") or 0) > _WORTH_SHOWING_S:
            self._open()

    def end(self, host: str) -> None:
        self._seen = {name: seen for name, seen in self._seen.items() if name != host}
        if not self._seen:
            self.close()

    def line(self, words: str) -> None:
        """A final line, above what is still moving."""
        if self._live is None:
            self._out.line(words)
            return
        from rich.text import Text

        self._live.console.print(Text.from_ansi(words), soft_wrap=True)

    def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _open(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        # We know already that it is a terminal, and whether it wants colours.
        console = Console(file=self._out.stream, force_terminal=True, highlight=False)

        def draw() -> Text:
            return Text.from_ansi("\n".join(self.rows(console.width)), no_wrap=True, overflow="crop")

        self._live = Live(console=console, get_renderable=draw, refresh_per_second=4, transient=True)
        self._live.start()

    def rows(self, width: int) -> list[str]:
        """What to draw on a terminal of *width* columns."""
        now = self._clock()
        try:
            return [row for host, seen in self._seen.items() for row in self._block(host, seen, now - seen.at, width)]
        except (AttributeError, TypeError, ValueError):
            return []  # an odd event, in rich's thread, where nobody could catch it: nothing moves, the deploy goes on

    def _block(self, host: str, seen: Seen, later: float, width: int) -> list[str]:
        event, layout = seen.event, self._layout
        head = layout.text(Line(host, "drain")) + "   " + drain.in_progress(event, seen.pid, later)
        clock = bar(float(event.get("elapsed_s") or 0) + later, float(event.get("ceiling_s") or 0))
        room = max(0, width - len(clock) - 2)
        tasks = _few([text.task(task, later) for task in event.get("tasks") or []])
        processes = _few([text.process(process) for process in event.get("processes") or []])
        below = [f"{layout.indent}        {item}"[: width - 1] for item in [*tasks, *processes]]
        return [f"{head[:room]:<{room}} {layout.paint(clock, 'strong')}", *(layout.paint(row, "dim") for row in below)]


def bar(elapsed: float, ceiling: float) -> str:
    """ "████░░░░░░░░  5m of 11m"."""
    share = min(1.0, elapsed / ceiling) if ceiling > 0 else 0.0
    full = round(share * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)}  {text.took(elapsed)} of {text.took(ceiling)}"


def _few(items: list[str]) -> list[str]:
    return items if len(items) <= _SHOWN else [*items[: _SHOWN - 1], f"… and {len(items) - _SHOWN + 1} more"]
