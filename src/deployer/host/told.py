"""What an event of the past says, in words for a timeline."""

from __future__ import annotations

import calendar
import json
import time
from typing import Any, Callable, Dict, Optional, Tuple

from deployer.durations import show

Event = Dict[str, Any]

_FOLDED = {
    "stage.finished", "install.finished", "check.finished", "rehearse.finished", "ready", "switched", "start.finished",
    "drain.started", "drain.finished", "prune.finished", "host.finished",
}  # fmt: skip
"""Told by the step, the drain or the instance that they belong to."""
_STAMPED = {"v", "time", "deploy", "host", "event", "release", "seq"}


def said(event: Event) -> Optional[Tuple[str, str]]:
    """The word and the text of *event*; None for one that other entries tell. One of another version says all that it has."""
    name = str(event.get("event"))
    if name in _FOLDED:
        return None
    known = _WORDS.get(name)
    try:
        return known(event) if known is not None else (name, _every(event))
    except (KeyError, TypeError, ValueError):  # written by another version
        return name, _every(event)


def verdict(found: Event) -> str:
    """How a drain ended, for a person: what was lost is said either way."""
    length = show(float(found["waited_s"]))
    lost = ", ".join(map(task, found.get("lost") or []))
    blind = found["verdict"] == "killed" and found.get("known") is False
    rest = f"lost: {lost}" if lost else "what it was working on is not known" if blind else "nothing lost"
    if found["verdict"] == "killed":
        pids = ", ".join(f"pid {one.get('pid')}" for one in found.get("killed") or []) or "it"
        stuck = "".join(f"; pid {one.get('pid')} could not even be killed" for one in found.get("stuck") or [])
        return f"KILLED after {length}: {pids}; {rest}{stuck}"
    how = "clean exit" if found["verdict"] == "clean" else f"exited{code(found.get('exit_code'))}"
    return f"{how} after {length}, {rest}"


def end(deploy: Event, result: Event) -> str:
    """How a deploy ended: status, exit code, gap, error."""
    gap = result.get("gap_ms")
    parts = [f"{deploy['status']}, exit code {deploy['exit_code']}"]
    parts += [] if gap is None else [f"no new request was served for {show(gap / 1000)}"]
    error = result.get("error") or {}
    return "; ".join([*parts, *([str(error["title"])] if error.get("title") else [])])


def code(number: Optional[int]) -> str:
    """An exit code as a clause; nothing where it cannot be known."""
    if number is None:
        return ""
    return f" with code {number}" if number >= 0 else f" by signal {-number}"


def task(item: Event) -> str:
    """A task with its age when it was last seen: "callClaude (4m12s)"."""
    name, age = str(item.get("name") or item.get("id") or "task"), item.get("age_s")
    return f"{name} ({show(age)})" if isinstance(age, (int, float)) else name


def holder(by: Event) -> str:
    """Who held the lock."""
    return f"{by.get('kind', 'deploy')} {by.get('deploy', '')} by {by.get('who', 'somebody')}"


def moment(event: Event, otherwise: float) -> float:
    """When *event* was told (seconds since 1970)."""
    text = str(event.get("time") or "")
    try:
        return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(f"0{text[19:].rstrip('Z')}")
    except ValueError:
        return otherwise


def _every(event: Event) -> str:
    fields = {name: value for name, value in event.items() if name not in _STAMPED}
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value)}" for name, value in fields.items()
    )


def _last_call_ended(event: Event) -> Tuple[str, str]:
    return "last call", "it went well" if event.get("ok") else f"it failed: {event.get('text')}"


def _reverted(event: Event) -> Tuple[str, str]:
    if not event.get("release"):
        return "revert", "nothing ran before: there is nothing to go back to"
    return "revert", f"{event['release']} serves again" if event.get(
        "ok"
    ) else f"{event['release']} did not start either"


def _cleaned_up(event: Event) -> str:
    how = "done" if event.get("cleanup_completed") else str(event.get("error") or "not completed")
    return f"{event['service']}: {'it still runs' if event.get('running') else how}"


_WORDS: Dict[str, Callable[[Event], Tuple[str, str]]] = {
    "warning": lambda event: ("warning", str(event["text"])),
    "resumed": lambda event: ("resumed", str(event["text"])),
    "revert.started": lambda event: ("revert", str(event["reason"])),
    "revert.finished": _reverted,
    "last_call.started": lambda event: (
        "last call", f"{show(event['left_s'])} before the ceiling, the app is asked to save its work"
    ),
    "last_call.finished": _last_call_ended,
    "drain.extended": lambda event: (
        "extended", f"{event['who']} gave the drain {show(event['by_s'])} more: the ceiling is {show(event['ceiling_s'])}"
    ),
    "drain.cut_short": lambda event: ("cut short", f"{event['who']} ended the wait"),
    "room.waiting": lambda event: ("wait", str(event["text"])),
    "pool.joined": lambda event: ("pool", f"traffic for {', '.join(event['addresses']) or 'nobody'}"),
    "pool.left": lambda event: ("pool", f"no traffic for {', '.join(event['addresses'])}"),
    "abort.asked": lambda event: ("abort", f"{event['who']} asked to go back to the old release"),
    "service.started": lambda event: ("ready", f"{event['service']} after {show(event['ready_s'])}"),
    "service.stopped": lambda event: ("clean-up", _cleaned_up(event)),
    "service.shared": lambda event: ("shared", f"{event['service']} of the app, pid {event['pid']}"),
    "service.kept": lambda event: ("kept", f"{event['service']} runs on: {event['why']}"),
    "job.started": lambda event: ("job", f"pid {event['pid']}: {event['command']}"),
    "job.finished": lambda event: ("job", f"exit code {event['exit_code']} after {show(event['took_s'])}"),
}  # fmt: skip
