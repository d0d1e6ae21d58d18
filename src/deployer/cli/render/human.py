"""The human view of a deploy: a line for each finished step, what moves, the result; shorter the more hosts there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deployer.cli.output import Output
from deployer.cli.render import host_end, rollout, text
from deployer.cli.render.course import Course, begins, is_result
from deployer.cli.render.lines import Layout, Line
from deployer.cli.render.live import LiveProgress
from deployer.cli.render.many import FEW, SOME
from deployer.cli.render.progress import Progress
from deployer.cli.render.result import result_lines
from deployer.cli.render.steps import Steps, host_of, in_detail, taken_back
from deployer.cli.render.tally import Tally
from deployer.cli.render.warned import Warned

_MOVES = ("drain.progress", "drain.waiting", "upload.progress")
_MUST_BE_SEEN = ("FAILED", "KILLED", "lost")


@dataclass(frozen=True)
class View:
    """How much to say, and about what."""

    target: str = ""
    quiet: bool = False
    verbose: bool = False


class HumanView:
    """
    Turns events into lines on *out*; an event that it does not know is told only to those who want every detail.

    Up to 12 hosts: every step of each. Up to 40: a line for each host, and what went wrong. Beyond: batches, and what went wrong.
    """

    def __init__(
        self, out: Output, layout: Layout, view: View, warn: Callable[[str], None], job: Output | None = None
    ) -> None:
        self._out = out
        self._job = job or out
        self._layout = layout
        self._view = view
        self._steps = Steps()
        self._tally = Tally(dict.fromkeys(layout.hosts, "waiting"))
        self._warned = Warned(warn)
        self._course = Course(target=view.target)
        self._draining: dict[str, object] = {}
        self._expected: dict[str, object] = {}
        self._begun: dict[str, object] = {}
        self._back: set[str] = set()
        tally = self._tally
        self._progress: LiveProgress | Progress = (
            LiveProgress(out, layout, tally=tally) if out.is_terminal else Progress(out.line, layout, tally=tally)
        )

    def event(self, event: Mapping[str, Any]) -> None:
        self._tally.note(event)
        self._course.note(event)
        if is_result(event):
            self._result(event)
        elif event.get("event") == "job.output":
            self._job.line(str(event.get("line") or ""))
        elif event.get("event") == "warning":
            self._progress.close()  # what moves would be torn by a line on stderr; the next progress redraws it
            self._warned.note(event, self._tally.size)
        elif not self._view.quiet:
            self._step(event)

    def close(self) -> None:
        """Leave the terminal as it was found."""
        self._progress.close()

    def _step(self, event: Mapping[str, Any]) -> None:
        name, host = event.get("event"), host_of(event)
        if begins(event):
            self._started(event)
        elif name == "drain.started":
            self._draining[host], self._expected[host] = event.get("pid"), event.get("expected")
        elif name in ("drain.progress", "drain.waiting"):
            self._progress.show({**event, "expected": self._expected.get(host)}, self._draining.get(host))
        elif name == "drain.finished":
            self._progress.end(host)
        else:
            self._progress.note(event)
        self._begun.setdefault(host, event.get("time"))
        self._say(self._line(event), event)

    def _line(self, event: Mapping[str, Any]) -> str | None:
        """The line for *event*, as far as so many hosts leave room for it."""
        about_all = rollout.headed(event)
        if about_all is not None:
            return self._layout.headed(*about_all)
        line = self._steps.line(event)
        if event.get("event") == "host.finished" and self._tally.size > 1:
            line = self._ended(event)
        elif self._too_much(line, event):
            return None
        return self._layout.text(line) if line is not None else None

    def _too_much(self, line: Line | None, event: Mapping[str, Any]) -> bool:
        if self._tally.size <= FEW or not event.get("host"):
            return False
        if self._tally.size > SOME and self._taken_back(event):
            return True
        return line is not None and not self._must_be_seen(line)

    def _taken_back(self, event: Mapping[str, Any]) -> bool:
        """Whether *event* is of a host that goes back because of others: with many that is what `rollout.stopped` said."""
        if taken_back(event):
            self._back.add(host_of(event))
        return host_of(event) in self._back and event.get("ok") is not False

    def _ended(self, event: Mapping[str, Any]) -> Line | None:
        if not FEW < self._tally.size <= SOME:
            return host_end.failed(event)
        return host_end.ended(event, text.between(self._begun.get(host_of(event)), event.get("time")))

    def _must_be_seen(self, line: Line) -> bool:
        if line.step == "link":  # one cut may take them all: the totals count them
            return self._tally.size <= SOME
        return line.status in _MUST_BE_SEEN or line.step == "revert"

    def _say(self, line: str | None, event: Mapping[str, Any]) -> None:
        if event.get("event") == "build.output" and self._view.verbose:
            self._progress.line(self._layout.quoted(str(event.get("line") or "")))
        elif line is not None:
            self._progress.line(line)
        elif self._view.verbose and event.get("event") not in _MOVES:
            self._progress.line(self._layout.headed(text.one_line(host_of(event), 40), in_detail(event)))

    def _started(self, event: Mapping[str, Any]) -> None:
        where = f"{event.get('app')} to {event.get('target')}" if event.get("kind") in (None, "push") else None
        words = text.joined(where or f"{event.get('app')} on {event.get('target')}", event.get("release"))
        self._progress.line(self._layout.headed(text.one_line(event.get("kind") or "push", 10), words))

    def _result(self, event: Mapping[str, Any]) -> None:
        self.close()
        self._warned.sum_up()
        lines = result_lines(event, self._course, self._layout)
        for line in lines[:1] if self._view.quiet else lines:
            self._out.line(line)
