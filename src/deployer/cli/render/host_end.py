"""How one host of several ended, as a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.lines import Line
from deployer.cli.render.steps import host_of
from deployer.model import EXIT_KILLED

Event = Mapping[str, Any]
_WORDS = {
    "unreachable": ("reach", "FAILED"),
    "failed": ("push", "FAILED"),
    "down": ("start", "FAILED"),
    "lost": ("link", "lost"),
}


def failed(event: Event) -> Line | None:
    """The line for a host whose end no step before has told: not reached, refused, failed at a gate, lost, or down."""
    status = str(event.get("status"))
    if status not in _WORDS:
        return None
    step, mark = _WORDS[status]
    return Line(host_of(event), step, mark, "", _why(event) or _left(status, event))


def ended(event: Event, seconds: float | None) -> Line | None:
    """The one line of a host among many: how it ended, after how long, where it stands. None where it is told already."""
    status = str(event.get("status"))
    bad = failed(event)
    if bad or status in ("reverted", "untouched"):
        return bad
    gap = event.get("gap_ms")
    details = text.joined(
        f"on {event['release']}" if event.get("release") else None,
        text.gap(gap) if isinstance(gap, int | float) else None,
        "a process had to be killed" if event.get("exit_code") == EXIT_KILLED else None,
        _why(event),
    )
    return Line(host_of(event), "push", status, text.took(seconds) if status == "done" else "", details)


def _why(event: Event) -> str:
    error = event.get("error")
    if not isinstance(error, Mapping):
        return ""
    title, cause = (text.of_host(event.get("host"), error.get(key) or "") for key in ("title", "cause"))
    return title if cause in title or title.endswith(cause) else text.joined(title, text.one_line(cause, 160))


def _left(status: str, event: Event) -> str:
    if status == "lost":
        return "the deploy goes on there; how it ends is not known yet"
    return f"on {event['release']}" if event.get("release") else ""
