"""What is under way, on a terminal: totals, drains with their tasks, uploads; redrawn in place below what is final."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deployer.cli.output import Output
from deployer.cli.render import drain, text
from deployer.cli.render.lines import Layout, Line
from deployer.cli.render.many import FEW
from deployer.cli.render.screen import Screen
from deployer.cli.render.tally import Tally
from deployer.cli.render.uploads import Uploads

_WORTH_SHOWING_S = 0.3
_BAR = 12
_SHOWN = 4
_IN_DETAIL = 2


@dataclass(frozen=True)
class Seen:
    """The last that was heard of a drain, and when (monotonic); `lost` is when its link broke."""

    event: Mapping[str, Any]
    pid: object
    at: float
    lost: float | None = None


class LiveProgress:
    """
    Redraws what is under way below the lines that are already final.

    It begins when a drain or an upload has lasted 0.3 s, not before: an idle push never pays for rich. With more hosts
    than a person can follow: the totals, and the drains that have taken longest.
    """

    def __init__(
        self, out: Output, layout: Layout, clock: Callable[[], float] = time.monotonic, tally: Tally | None = None
    ) -> None:
        self._out = out
        self._layout = layout
        self._clock = clock
        self._tally = tally or Tally()
        self._seen: dict[str, Seen] = {}
        self._uploads = Uploads()
        self._screen = Screen(out, self.rows)

    def show(self, event: Mapping[str, Any], pid: object) -> None:
        """Take a `drain.progress` of the process *pid* in."""
        # A new dict each time: rich draws from a thread of its own.
        self._seen = {**self._seen, _host(event): Seen(event, pid, self._clock())}
        if float(event.get("elapsed_s") or 0) > _WORTH_SHOWING_S:
            self._screen.open()

    def end(self, host: str) -> None:
        """The drain of *host* is over."""
        self._seen = {name: seen for name, seen in self._seen.items() if name != host}
        self._close_if_idle()

    def note(self, event: Mapping[str, Any]) -> None:
        """Take any other event in that moves something here."""
        name, host = event.get("event"), _host(event)
        self._uploads.note(event, self._clock())
        if name == "link.lost" and host in self._seen:
            # What it does now is not known: nothing of it may look as if it moved.
            self._seen = {**self._seen, host: replace(self._seen[host], lost=self._clock())}
        elif name == "host.finished":
            self.end(host)
        if self._uploads.lasting(self._clock()) or (self._tally.size > FEW and name == "host.started"):
            self._screen.open()
        else:
            self._close_if_idle()

    def line(self, words: str) -> None:
        """A final line, above what is still moving."""
        self._screen.line(words)

    def close(self) -> None:
        self._screen.close()

    def _close_if_idle(self) -> None:
        if not self._seen and not self._uploads.lasting(self._clock()) and self._tally.size <= FEW:
            self._screen.close()

    def rows(self, width: int) -> list[str]:
        """What to draw on a terminal of *width* columns."""
        now = self._clock()
        try:
            blocks = self._drains(now, width) + self._uploads.rows(self._layout)
            totals = [self._layout.headed("all", self._tally.text())] if self._tally.size > FEW else []
            return [*blocks, *(row[: width - 1] for row in totals)]
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return []  # an odd event, in rich's thread, where nobody could catch it: nothing moves, the deploy goes on

    def _drains(self, now: float, width: int) -> list[str]:
        seen = sorted(self._seen.items(), key=lambda each: -_elapsed(each[1], now))
        shown = seen if len(seen) <= FEW and self._tally.size <= FEW else seen[:_SHOWN]
        rows = [row for host, one in shown for row in self._block(host, one, now, width, len(seen) <= _IN_DETAIL)]
        more = len(seen) - len(shown)
        return [*rows, *([f"{self._layout.indent}… and {text.plural(more, 'more drain')}"] if more else [])]

    def _block(self, host: str, seen: Seen, now: float, width: int, in_detail: bool) -> list[str]:
        event, layout = seen.event, self._layout
        later = (now if seen.lost is None else seen.lost) - seen.at
        head = layout.text(Line(host, "drain")) + "   " + drain.in_progress(event, seen.pid, later)
        clock = bar(_elapsed(seen, now), float(event.get("ceiling_s") or 0))
        if seen.lost is not None:
            clock = f"not heard of for {text.took(now - seen.lost)}"
        room = max(0, width - len(clock) - 2)
        tasks = _few([text.task(task, later) for task in event.get("tasks") or []])
        processes = _few([text.process(process) for process in event.get("processes") or []])
        listed = [*tasks, *processes] if in_detail else []
        below = [f"{layout.indent}        {item}"[: width - 1] for item in listed]
        return [f"{head[:room]:<{room}} {layout.paint(clock, 'strong')}", *(layout.paint(row, "dim") for row in below)]


def _elapsed(seen: Seen, now: float) -> float:
    return float(seen.event.get("elapsed_s") or 0) + (now if seen.lost is None else seen.lost) - seen.at


def _host(event: Mapping[str, Any]) -> str:
    return str(event.get("host") or "local")


def bar(elapsed: float, ceiling: float) -> str:
    """ "████░░░░░░░░  5m of 11m"."""
    share = min(1.0, elapsed / ceiling) if ceiling > 0 else 0.0
    full = round(share * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)}  {text.took(elapsed)} of {text.took(ceiling)}"


def _few(items: list[str]) -> list[str]:
    return items if len(items) <= _SHOWN else [*items[: _SHOWN - 1], f"… and {len(items) - _SHOWN + 1} more"]
