"""What is under way, where nothing can be redrawn: a line now and then, so that a CI log stays short."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from deployer.cli.render import drain, text
from deployer.cli.render.lines import Layout, Line
from deployer.cli.render.many import FEW
from deployer.cli.render.tally import Tally
from deployer.cli.render.uploads import Uploads

# A drain shorter than the first is not worth a line; after the last, one line every 30 s.
_FIRST_S = (0.3, 2.0, 5.0, 15.0)
_EVERY_S = 30.0
_UPLOAD_EVERY_S = 10.0


class Progress:
    """
    Says how a drain goes after 0.3, 2, 5 and 15 seconds, then every 30; how uploads go every 10.

    With more hosts than a person can follow: the totals, every 30 s.
    """

    def __init__(
        self,
        line: Callable[[str], None],
        layout: Layout,
        clock: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
    ) -> None:
        self._line = line
        self._layout = layout
        self._clock = clock
        self._tally = tally or Tally()
        self._next: dict[str, float] = {}
        self._uploads = Uploads()
        self._next_upload = _UPLOAD_EVERY_S
        self._next_total: float | None = None

    def show(self, event: Mapping[str, Any], pid: object) -> None:
        """Take a `drain.progress` of the process *pid* in."""
        host, elapsed = str(event.get("host") or "local"), float(event.get("elapsed_s") or 0)
        if self._tally.size > FEW:
            return self._total()
        if elapsed < self._next.get(host, _FIRST_S[0]):
            return None
        self._next[host] = _after(elapsed)
        detail = text.joined(f"of {text.took(event.get('ceiling_s'))}", drain.in_progress(event, pid))
        return self._line(self._layout.text(Line(host, "drain", "...", text.took(elapsed), detail)))

    def end(self, host: str) -> None:
        """The drain of *host* is over."""
        self._next.pop(host, None)

    def note(self, event: Mapping[str, Any]) -> None:
        """Take any other event in that moves something here."""
        now = self._clock()
        self._uploads.note(event, now)
        spent = self._uploads.seconds(now)
        if not spent:
            self._next_upload = _UPLOAD_EVERY_S
        elif spent >= self._next_upload:
            self._next_upload = (spent // _UPLOAD_EVERY_S + 1) * _UPLOAD_EVERY_S
            for row in self._uploads.rows(self._layout, paint_bar=False):
                self._line(row)
        if self._tally.size > FEW:
            self._total()

    def line(self, words: str) -> None:
        self._line(words)

    def close(self) -> None:
        """Nothing is open."""

    def _total(self) -> None:
        now = self._clock()
        if self._next_total is None:
            self._next_total = now + _EVERY_S
        elif now >= self._next_total:
            self._next_total = now + _EVERY_S
            self._line(self._layout.headed("all", self._tally.text()))


def _after(elapsed: float) -> float:
    """When the next line is due."""
    later = [moment for moment in _FIRST_S if moment > elapsed]
    return later[0] if later else (elapsed // _EVERY_S + 1) * _EVERY_S
