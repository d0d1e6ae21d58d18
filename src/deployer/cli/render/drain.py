"""What a drain says of itself while it lasts, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployer import durations
from deployer.cli.render import text
from deployer.cli.render.lines import Line

_HEARD_AFTER_S = 2.0


def in_progress(event: Mapping[str, Any], pid: object = None, later: float = 0.0) -> str:
    """What the old instance is busy with, *later* seconds after *event* (a `drain.progress`) said so."""
    tasks = event.get("tasks") or []
    first = text.task(tasks[0], later) if tasks else _busy(event.get("busy"), event.get("health"))
    count = text.plural(len(tasks), "task") if tasks else None
    return text.joined(first, count, f"pid {pid}" if pid else None, _deaf(event), _usual(event.get("expected")))


def finished(event: Mapping[str, Any]) -> Line:
    """The line for `drain.finished`: clean, exited or KILLED, and what was lost."""
    verdict = event.get("verdict")
    status = {"clean": "ok", "killed": "KILLED"}.get(str(verdict), text.one_line(verdict or "ok", 6))
    details = {"killed": _killed, "exited": _exited}.get(str(verdict), _clean)(event)
    words = text.joined(event.get("service"), details)
    return Line(_host(event), "drain", status, text.took(event.get("waited_s")), words)


def _busy(busy: object, health: object) -> str | None:
    if isinstance(busy, int) and not isinstance(busy, bool) and busy > 0:
        return f"{busy} in progress"
    if busy is True:
        return "busy"
    return f"health {text.one_line(health, 40)}" if health and health != "none" else None


def _deaf(event: Mapping[str, Any]) -> str | None:
    quiet = event.get("heard") is False and (event.get("elapsed_s") or 0) > _HEARD_AFTER_S
    return "no sign that it heard the signal" if quiet else None


def _usual(expected: Any) -> str | None:
    """What the drains before this one took: "usually 42s, longest 3m10s"."""
    if not isinstance(expected, Mapping) or not expected.get("count"):
        return None
    numbers = (float(expected.get("median_s") or 0), float(expected.get("longest_s") or 0), int(expected["count"]))
    return durations.usual(*numbers, at_least=bool(expected.get("at_least")))


def _clean(event: Mapping[str, Any]) -> str:
    return f"clean exit, {_lost(event)}"


def _exited(event: Mapping[str, Any]) -> str:
    return f"exit code {event.get('exit_code')}, {_lost(event)}"


def _killed(event: Mapping[str, Any]) -> str:
    pids = [str(process.get("pid")) for process in event.get("killed") or []] or [str(event.get("pid", "?"))]
    why = (
        f"killed, as {event['ended_by']} ended the drain"
        if event.get("ended_by")
        else "had to be killed at the ceiling"
    )
    return f"pid{'s' * (len(pids) > 1)} {', '.join(pids)} {why}; {_lost(event)}"


def _lost(event: Mapping[str, Any]) -> str:
    blind = event.get("verdict") == "killed" and event.get("known") is False
    return lost_tasks(event) or ("what it was working on is not known" if blind else "nothing lost")


def lost_tasks(event: Mapping[str, Any]) -> str:
    """ "lost: callClaude (4m12s)", or nothing where nothing is known to be lost."""
    names = [_named(item, event.get("time")) for item in event.get("lost") or []]
    return f"lost: {', '.join(names)}" if names else ""


def _named(item: Any, now: object) -> str:
    if not isinstance(item, Mapping):
        return text.one_line(item, 60)
    age = item.get("age_s")
    shown = text.took(text.between(item.get("started_at"), now) if age is None else age)
    name = text.one_line(item.get("name") or item.get("id") or "task", 60)
    return f"{name} ({shown})" if shown else name


def _host(event: Mapping[str, Any]) -> str:
    return str(event.get("host") or "local")
