"""The human view of a deploy: a line for each finished step, a drain that moves, the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deployer.cli.output import Output
from deployer.cli.render import text
from deployer.cli.render.lines import Layout, Line
from deployer.cli.render.live import LiveProgress
from deployer.cli.render.progress import Progress
from deployer.cli.render.result import Course, begins, is_result, result_lines
from deployer.cli.render.steps import Steps, host_of, in_detail


@dataclass(frozen=True)
class View:
    """How much to say, and about what."""

    target: str = ""
    quiet: bool = False
    verbose: bool = False


class HumanView:
    """Turns events into lines on *out*; an event that it does not know is told only to those who want every detail."""

    def __init__(self, out: Output, layout: Layout, view: View, warn: Callable[[str], None]) -> None:
        self._out = out
        self._layout = layout
        self._view = view
        self._warn = warn
        self._steps = Steps()
        self._course = Course(target=view.target)
        self._draining: dict[str, object] = {}
        self._expected: dict[str, object] = {}
        self._progress = LiveProgress(out, layout) if out.is_terminal else Progress(out.line, layout)

    def event(self, event: Mapping[str, Any]) -> None:
        self._course.note(event)
        if is_result(event):
            self._result(event)
        elif event.get("event") == "warning":
            self._progress.close()  # what moves would be torn by a line on stderr; the next progress redraws it
            self._warn(str(event.get("text")))
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
        self._say(self._steps.line(event), event)

    def _say(self, line: Line | None, event: Mapping[str, Any]) -> None:
        if event.get("event") == "build.output" and self._view.verbose:
            self._progress.line(self._layout.quoted(str(event.get("line") or "")))
        elif line is not None:
            self._progress.line(self._layout.text(line))
        elif self._view.verbose and event.get("event") not in ("drain.progress", "drain.waiting"):
            self._progress.line(self._layout.headed(text.one_line(host_of(event), 40), in_detail(event)))

    def _started(self, event: Mapping[str, Any]) -> None:
        where = f"{event.get('app')} to {event.get('target')}" if event.get("kind") in (None, "push") else None
        words = text.joined(where or f"{event.get('app')} on {event.get('target')}", event.get("release"))
        self._progress.line(self._layout.headed(text.one_line(event.get("kind") or "push", 10), words))

    def _result(self, event: Mapping[str, Any]) -> None:
        self.close()
        lines = result_lines(event, self._course, self._layout)
        for line in lines[:1] if self._view.quiet else lines:
            self._out.line(line)
