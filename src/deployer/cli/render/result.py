"""The last lines: where the service stands now, what it cost, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployer.cli.render import text, witness
from deployer.cli.render.course import Course
from deployer.cli.render.lines import Layout
from deployer.cli.render.standing import GOOD, good, standing
from deployer.model import EXIT_KILLED

_IN_A_LINE = 2
_NAMED = 3

_DONE = {
    ("push", "done"): "{who} on {release}",
    ("push", "unchanged"): "{who} already on {release}, nothing to do",
    ("start", "done"): "{who} started on {release}",
    ("start", "unchanged"): "{who} already running {release}, nothing to do",
    ("stop", "done"): "{who} stopped",
    ("stop", "unchanged"): "{who} already stopped, nothing to do",
    ("restart", "done"): "{who} restarted on {release}",
    ("run", "done"): "{who} ran the job of {release}",
}

_ABORTED = {
    "aborted": "{who} on {release}: the deploy was aborted",
    "asked": "{who} goes back by itself: the old process finishes its work first",
    "nothing": "nothing was under way on {who}",
}


def result_lines(event: Mapping[str, Any], course: Course, layout: Layout) -> list[str]:
    """The result, what the witness saw, and the next command where one is likely."""
    if course.started is None and event.get("kind") == "run":  # followed from its middle on
        course.kind = "run"
    first, *more = _result(event, course, layout)
    return [text.joined(first, witness.in_short(event)), *witness.lines(event, layout), *more]


def _result(event: Mapping[str, Any], course: Course, layout: Layout) -> list[str]:
    status, hosts = str(event.get("status")), event["hosts"]
    if status == "detached" and course.kind == "run":
        words = f"{_names(hosts)} runs the job, and cleans up by itself"
        return [layout.headed("done", words), layout.headed("next", f"deployer attach {course.target}".rstrip())]
    if status == "detached":
        rest = "the old process finishes its work"
        words = (
            f"{_names(hosts)} serves; {rest}" if course.switched else f"{_names(hosts)} goes on by itself: {rest} first"
        )
        return [layout.headed("done", words), layout.headed("next", f"deployer attach {course.target}".rstrip())]
    killed = "a process had to be killed" if course.killed else None
    if len(hosts) > _IN_A_LINE and good(hosts) < len(hosts) and event.get("kind") != "abort":
        return _fleet(event, course, layout, killed)
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


def _fleet(event: Mapping[str, Any], course: Course, layout: Layout, killed: str | None) -> list[str]:
    """The result of a rollout with hosts that are not as wished: the sum, each of them, and what to do."""
    status, hosts = str(event.get("status")), event["hosts"]
    if status in GOOD:
        words = text.joined(_success(status, event, course), *_costs(status, event, course))
        return [layout.headed("done", words), *standing(hosts, course.reasons, layout)]
    wished = f"{good(hosts)}/{len(hosts)} hosts as wished"
    head = {"down": "the service is down", "partial": "hosts differ", "reverted": "every host is on what it ran before"}
    words = text.joined(head.get(status, f"{course.kind} failed"), wished if status != "reverted" else None, killed)
    lines = [layout.headed("down" if status == "down" else "fail", words)]
    lines += [*standing(hosts, course.reasons, layout), *_explain(course, layout, f"--host {course.recorded_by}")]
    again = f"deployer {course.kind} {course.target}".rstrip()
    return [*lines, layout.headed("next", f"{again} goes on with the rest")] if good(hosts) else lines


def _explain(course: Course, layout: Layout, where: str = "") -> list[str]:
    """How to see what went wrong; nothing where the deploy never got to a host."""
    command = " ".join(word for word in ("deployer explain", course.target, course.on_record, where) if word)
    return [layout.headed("next", command)] if course.on_record else []


def _success(status: str, event: Mapping[str, Any], course: Course) -> str:
    kind = course.kind if course.kind in ("start", "stop", "restart", "run") else "push"
    pattern = _DONE.get((kind, status), "{who} " + status)
    words = pattern.format(who=_who(event["hosts"], course), release=_release(event["hosts"]))
    spent = text.between(course.started, event.get("time"))
    return f"{words} in {text.took(spent)}" if status == "done" and spent is not None else words


def _costs(status: str, event: Mapping[str, Any], course: Course) -> list[str]:
    gap = max(course.gaps, default=None) if status == "done" and course.kind != "stop" else None
    costs = [] if gap is None else [text.gap(gap)]
    return [*costs, "a process had to be killed"] if event.get("exit_code") == EXIT_KILLED else costs


def _failure(status: str, kind: str, hosts: list[Any]) -> str:
    if status == "down":
        return f"{_names(hosts)} not running: no release would start"
    if status == "partial":
        return "hosts differ: " + ", ".join(f"{host.get('host')} {host.get('status')} {_on(host)}" for host in hosts)
    if status == "reverted":
        return f"{_names(hosts)} back {_on(hosts[0] if hosts else {})}"
    if kind == "run":
        return f"the run failed on {_names(hosts)}"
    serving = [f"{host.get('host')} {_on(host)}" for host in hosts if host.get("release")]
    return text.joined(f"{kind} failed", ", ".join(serving))


def _on(host: Mapping[str, Any]) -> str:
    return f"on {host.get('release') or 'no release'}"


def _who(hosts: list[Any], course: Course) -> str:
    if len(hosts) > 1:
        return f"{good(hosts)}/{len(hosts)} hosts"
    return _names(hosts) or course.target


def _names(hosts: list[Any]) -> str:
    if len(hosts) > _NAMED:
        return f"{len(hosts)} hosts"
    return ", ".join(str(host.get("host")) for host in hosts)


def _release(hosts: list[Any]) -> str:
    """What the hosts are on; those that are not as wished do not count, where others are."""
    wished = [host for host in hosts if host.get("status") in GOOD] or hosts
    releases = {str(host.get("release")) for host in wished if host.get("release")}
    return ", ".join(sorted(releases)) or "its release"
