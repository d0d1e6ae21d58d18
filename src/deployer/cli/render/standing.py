"""Where each host stands after a rollout that did not go as wished: grouped by how it ended, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.lines import Layout
from deployer.cli.render.many import FEW, SOME

Host = Mapping[str, Any]

GOOD = ("done", "unchanged")
_WORST_FIRST = ("down", "lost", "failed", "unreachable", "reverted", "detached", "untouched", *GOOD)
_STYLES = {"down": "bad", "lost": "bad", "failed": "bad", "unreachable": "bad", "reverted": "warn", "done": "good"}
_NOT_KNOWN = ("lost", "unreachable")


def good(hosts: Sequence[Host]) -> int:
    """How many are on what was wished for."""
    return sum(host.get("status") in GOOD for host in hosts)


def standing(hosts: Sequence[Host], reasons: Mapping[str, str], layout: Layout) -> list[str]:
    """
    A line for each host with its status, its release and why; of more than 12 hosts the good ones are only counted.

    A group too long to read, such as the hosts that a stopped rollout never came to, is one line.
    """
    groups: dict[str, list[Host]] = {}
    for host in sorted(hosts, key=_rank):
        groups.setdefault(str(host.get("status")), []).append(host)
    return [line for status, members in groups.items() for line in _group(status, members, len(hosts), reasons, layout)]


def _group(status: str, members: Sequence[Host], whole: int, reasons: Mapping[str, str], layout: Layout) -> list[str]:
    if whole <= FEW:
        return [_row(host, reasons, layout) for host in members]
    if status in GOOD:
        return [_together(status, members, False, layout)]
    most = FEW if status in ("untouched", "detached") else SOME
    if len(members) <= most:
        return [_row(host, reasons, layout) for host in members]
    return [_together(status, members, True, layout)]


def _row(host: Host, reasons: Mapping[str, str], layout: Layout) -> str:
    status, name = str(host.get("status")), str(host.get("host"))
    head = f"{text.one_line(name, 40):<{layout.width}}  {layout.paint(f'{status:<11}', _STYLES.get(status, ''))}"
    return f"{head}  {text.joined(_on(host), text.of_host(name, reasons.get(name, '')))}".rstrip()


def _together(status: str, members: Sequence[Host], named: bool, layout: Layout) -> str:
    names = text.names([host.get("host") for host in members], 6) if named else ""
    count = f"{text.plural(len(members), 'host')}{': ' + names if names else ''}"
    releases = sorted({_on(host) for host in members})
    return f"{layout.indent}{status:<11}  {text.joined(count, releases[0] if len(releases) == 1 else None)}"


def _on(host: Host) -> str:
    if host.get("release"):
        return f"on {host['release']}"
    if host.get("status") == "untouched":
        return "as it was"
    return "not known what runs" if host.get("status") in _NOT_KNOWN else "on no release"


def _rank(host: Host) -> int:
    status = str(host.get("status"))
    return _WORST_FIRST.index(status) if status in _WORST_FIRST else 0
