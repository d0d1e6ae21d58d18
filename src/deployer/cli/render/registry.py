"""The registry for a person: a line for each thing that happened, a table of all nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.many import counted, table
from deployer.cli.render.paint import Paint

_STYLES = {"online": "good", "resumed": "good", "draining": "warn", "offline": "bad", "trouble": "bad", "swept": "warn"}


def event_line(event: Mapping[str, Any], paint: Paint) -> str:
    """One event of the log: when, who, what, and what belongs to it. Cheap: ten thousand nodes may leave at once."""
    group, _, what = event["event"].partition(".")
    who = event["node"] if group == "node" else group
    facts = _of_node(event) if group == "node" else _of_registry(what, event)
    words = paint(f"{what:<9}", _STYLES.get(what, "dim"))
    return f"{_clock(event['time'])}  {_plain(who, 60):<16}  {words}  {_plain(facts, 400)}".rstrip()


def _plain(words: str, limit: int) -> str:
    return words if words.isascii() and words.isprintable() and len(words) <= limit else text.one_line(words, limit)


@lru_cache(maxsize=2)
def _minute(minute: str) -> str:
    """The minute here of an ISO one in UTC."""
    moment = text.moment(f"{minute}:00Z")
    return moment.astimezone().strftime("%H:%M") if moment else ""


def _clock(time: str) -> str:
    return _minute(time[:16]) + time[16:19]


def _of_node(event: Mapping[str, Any]) -> str:
    busy = event.get("busy")
    pools = ", ".join(event.get("pools") or ())
    return text.joined(
        event.get("reason"), pools, event.get("release"), f"busy {busy}" if busy else None, event.get("address")
    )


def _of_registry(what: str, event: Mapping[str, Any]) -> str:
    if what == "started":
        kept = f"marks in {event['state']}" if event.get("state") else "marks are not kept"
        return text.joined(f"listens on {event['listen']}", "TLS" if event.get("tls") else None, kept)
    facts = {key: value for key, value in event.items() if key not in ("v", "time", "event") and value is not None}
    return text.joined(
        *(str(value) if key in ("what", "why", "found") else f"{key} {value}" for key, value in facts.items())
    )


_ORDER = {"draining": 0, "online": 1, "offline": 2}


def nodes_lines(
    nodes: Sequence[Mapping[str, Any]], paint: Paint, now: datetime | None = None, most: int | None = None
) -> list[str]:
    """A row for each of at most *most* nodes, those that leave first, the busiest of the others next; then how many there are."""
    if not nodes:
        return ["no node has registered yet"]
    moment = (now or datetime.now(UTC)).isoformat()
    ordered = sorted(nodes, key=lambda node: (_ORDER.get(node["status"], 3), -(node.get("busy") or 0), node["id"]))
    shown = ordered[:most]
    head = ["NODE", "STATUS", "POOLS", "BUSY", "RELEASE", "SINCE", "WHY"]
    lines = table(head, [_row(node, moment) for node in shown], paint)
    lines[1:] = [_painted(line, node["status"], paint) for line, node in zip(lines[1:], shown, strict=True)]
    more = len(nodes) - len(shown)
    total = f"{text.plural(len(nodes), 'node')}: {counted([node['status'] for node in nodes])}"
    return [*lines, text.joined(total, f"{more} not shown" if more else None)]


def marked_line(node: Mapping[str, Any], undone: bool) -> str:
    """What became of a node that was marked, or whose mark was taken away."""
    busy = node.get("busy") or 0
    work = f"{text.plural(busy, 'task')} in progress" if busy else None
    what = "no longer marked" if undone else "out of every pool; it stays connected"
    return text.joined(f"{text.one_line(node['id'], 60)}  {node['status']}", what, None if undone else work)


def _row(node: Mapping[str, Any], now: str) -> list[str]:
    busy, capacity = node.get("busy") or 0, node.get("capacity")
    stuck = node.get("stuck_s")
    return [
        node["id"], node["status"], ", ".join(node["pools"]), f"{busy}/{capacity}" if capacity else str(busy),
        node.get("release") or "-", text.took(text.between(node["since"], now)),
        text.joined(node.get("reason"), f"stuck for {text.took(stuck)}" if stuck else None),
    ]  # fmt: skip


def _painted(line: str, status: str, paint: Paint) -> str:
    return line if status == "online" else paint(line, {"draining": "warn"}.get(status, "dim"))
