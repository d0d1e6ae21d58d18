"""The last lines: where the service stands now, what it cost, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.lines import Layout
from deployer.model import EXIT_KILLED

_DONE = {
    ("push", "done"): "{who} on {release}",
    ("push", "unchanged"): "{who} already on {release}, nothing to do",
    ("start", "done"): "{who} started on {release}",
    ("start", "unchanged"): "{who} already running {release}, nothing to do",
    ("stop", "done"): "{who} stopped",
    ("stop", "unchanged"): "{who} already stopped, nothing to do",
    ("restart", "done"): "{who} restarted on {release}",
}

_ABORTED = {
    "aborted": "{who} on {release}: the deploy was aborted",
    "asked": "{who} goes back by itself: the old process finishes its work first",
    "nothing": "nothing was under way on {who}",
}


@dataclass
class Course:
    """What a result needs to know of the events before it."""

    target: str = ""
    kind: str = "push"
    started: object = None
    gaps: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    on_record: str = ""
    killed: bool = False

    def note(self, event: Mapping[str, Any]) -> None:
        if begins(event):
            self.kind, self.started = str(event.get("kind") or "push"), event.get("time")
        self.killed = self.killed or (event.get("event") == "drain.finished" and event.get("verdict") == "killed")
        if isinstance(event.get("gap_ms"), int | float):
            self.gaps.append(event["gap_ms"])
        if event.get("event") == "host.finished" and event.get("seq"):  # numbered by the host: it has it on record
            self.on_record = str(event.get("deploy") or "")


def begins(event: Mapping[str, Any]) -> bool:
    """Whether *event* opens a push, a rollback, a start, a stop or a restart."""
    return str(event.get("event")).endswith(".started") and "kind" in event and "app" in event


def is_result(event: Mapping[str, Any]) -> bool:
    """Whether *event* ends a push, a rollback, a start, a stop or a restart (`start.finished` is a step's name too)."""
    return str(event.get("event")).endswith(".finished") and "status" in event and isinstance(event.get("hosts"), list)


def result_lines(event: Mapping[str, Any], course: Course, layout: Layout) -> list[str]:
    """The result, and the next command where one is likely."""
    status, hosts = str(event.get("status")), event["hosts"]
    if status == "detached":
        words = f"{_names(hosts)} goes on by itself: the old process finishes its work first"
        return [layout.headed("done", words), layout.headed("next", f"deployer attach {course.target}".rstrip())]
    killed = "a process had to be killed" if course.killed else None
    if event.get("kind") == "abort" and status in _ABORTED:
        words = (
            _ABORTED[status]
            if status != "aborted" or hosts[0].get("release")
            else "{who} runs nothing: the deploy was aborted"
        )
        return [layout.headed("done", text.joined(words.format(who=_names(hosts), release=_release(hosts)), killed))]
    if status not in ("done", "unchanged"):
        fail = layout.headed(
            "down" if status == "down" else "fail",
            text.joined(_failure(status, course.kind, hosts), killed),
        )
        return [fail, *_explain(course, layout)]
    lines = [layout.headed("done", text.joined(_success(status, event, course), *_costs(status, event, course)))]
    if (
        status == "done" and course.kind in ("push", "deploy") and course.gaps
    ):  # something was replaced: it can come back
        lines.append(layout.headed("next", f"deployer rollback {course.target}".rstrip()))
    return lines + (_explain(course, layout) if event.get("exit_code") == EXIT_KILLED else [])


def _explain(course: Course, layout: Layout) -> list[str]:
    """How to see what went wrong; nothing where the deploy never got to a host."""
    command = " ".join(word for word in ("deployer explain", course.target, course.on_record) if word)
    return [layout.headed("next", command)] if course.on_record else []


def _success(status: str, event: Mapping[str, Any], course: Course) -> str:
    kind = course.kind if course.kind in ("start", "stop", "restart") else "push"
    pattern = _DONE.get((kind, status), "{who} " + status)
    words = pattern.format(who=_who(event["hosts"], course), release=_release(event["hosts"]))
    spent = text.between(course.started, event.get("time"))
    return f"{words} in {text.took(spent)}" if status == "done" and spent is not None else words


def _costs(status: str, event: Mapping[str, Any], course: Course) -> list[str]:
    gap = max(course.gaps, default=None) if status == "done" and course.kind != "stop" else None
    costs = [] if gap is None else [f"gap {gap:.0f} ms" if gap < 1000 else f"gap {text.took(gap / 1000)}"]
    return [*costs, "a process had to be killed"] if event.get("exit_code") == EXIT_KILLED else costs


def _failure(status: str, kind: str, hosts: list[Any]) -> str:
    if status == "down":
        return f"{_names(hosts)} not running: no release would start"
    if status == "partial":
        return "hosts differ: " + ", ".join(f"{host.get('host')} {host.get('status')} {_on(host)}" for host in hosts)
    if status == "reverted":
        return f"{_names(hosts)} back {_on(hosts[0] if hosts else {})}"
    serving = [f"{host.get('host')} {_on(host)}" for host in hosts if host.get("release")]
    return text.joined(f"{kind} failed", ", ".join(serving))


def _on(host: Mapping[str, Any]) -> str:
    return f"on {host.get('release') or 'no release'}"


def _who(hosts: list[Any], course: Course) -> str:
    if len(hosts) > 1:
        good = sum(host.get("status") in ("done", "unchanged") for host in hosts)
        return f"{good}/{len(hosts)} hosts"
    return _names(hosts) or course.target


def _names(hosts: list[Any]) -> str:
    return ", ".join(str(host.get("host")) for host in hosts)


def _release(hosts: list[Any]) -> str:
    releases = {str(host.get("release")) for host in hosts if host.get("release")}
    return ", ".join(sorted(releases)) or "its release"
