"""One deploy as a timeline for a person: 80 columns, and a bar where the time went."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from deployer.cli.render import census, text
from deployer.cli.render.many import FEW, answered, named
from deployer.cli.render.paint import Paint

_WIDTH = 80
_BAR = 6
_LOGS = (
    ("old", "what the old release printed last"),
    ("new", "what the new release printed last"),
    ("engine", "what the engine logged meanwhile"),
)
_BAD = ("KILLED", "force", "revert", "exit", "abort")


def explain_lines(data: Mapping[str, Any], paint: Paint) -> list[str]:
    """Each host's deploy: who and what, the timeline, the ends of the logs, where the time went; a row each of many hosts."""
    hosts = answered(data)
    if len(hosts) > FEW:
        return census.timelines(hosts, paint)
    lines: list[str] = []
    for host in hosts:
        above = [*named(data["hosts"], host.get("host"), paint), ""] if len(data["hosts"]) > 1 else []
        lines += [*([""] if lines else []), *above, *_host(host, paint)]
    return lines


def _host(host: Mapping[str, Any], paint: Paint) -> list[str]:
    if host.get("absent"):
        return [text.one_line(host["absent"], 400)]
    waits = host.get("waits") or {}
    total = waits.get("total_s") or 0.0
    lines = [*_head(host.get("deploy") or {}, paint), ""]
    lines += [line for entry in host.get("timeline") or [] for line in _entry(entry, total, paint)]
    for name, title in _LOGS:
        lines += _log(name, title, (host.get("logs") or {}).get(name) or [], paint)
    return [*lines, "", *_wrapped(paint("time", "strong") + "   ", 7, text.one_line(waits.get("summary"), 400))]


def _head(deploy: Mapping[str, Any], paint: Paint) -> list[str]:
    started = text.moment(deploy.get("started_at"))
    ended = f"{deploy.get('status')}, exit code {deploy.get('exit_code')}" if deploy.get("ended_at") else "under way"
    when = f"{started:%Y-%m-%d %H:%M:%S} UTC" if started else None
    previous = deploy.get("previous")
    instead = f" in the place of {previous}" if previous and previous != deploy.get("release") else ""
    name = text.one_line(deploy.get("deploy"), 80)
    rows = [
        text.joined(name, when, ended),
        f"{deploy.get('kind')} of {deploy.get('release') or 'no release'}{instead}",
    ]
    first, *rest = [line for row in rows for line in _wrapped("", 2, text.one_line(row, 400))]
    return [first.replace(name, paint(name, "strong"), 1), *rest]


def _entry(entry: Mapping[str, Any], total: float, paint: Paint) -> list[str]:
    took = entry.get("took_s")
    what = text.one_line(entry.get("what"), 9)
    said = text.one_line(entry.get("text") or "", 400)
    style = "bad" if what in _BAD or said.startswith("KILLED") else ""
    head = f"{text.took(entry.get('at_s')):>7}  {paint(f'{what:<9}', style)} {text.took(took):>6} "
    bar = _bar(took, total)
    head += paint(f"{bar:<{_BAR}}", "warn") + " "
    indent = 7 + 2 + 9 + 1 + 6 + 1 + _BAR + 1
    detail = [f"│ {text.clean(str(line))[:400]}".rstrip() for line in entry.get("detail") or []]
    return [*_wrapped(head, indent, text.joined(said, _waited(entry))), *(f"{' ' * indent}{line}" for line in detail)]


def _waited(entry: Mapping[str, Any]) -> str | None:
    if not entry.get("waited_for"):
        return None
    reason = text.one_line(entry["waited_for"], 400)
    return f"waiting for {reason}, so far" if entry.get("so_far") else f"waited for {reason}"


def _bar(took: object, total: float) -> str:
    """The share that *took* has of *total*; nothing for what nobody would have noticed."""
    if not isinstance(took, int | float) or total <= 0:
        return ""
    return "█" * min(_BAR, round(took / total * _BAR))


def _wrapped(head: str, indent: int, words: str) -> list[str]:
    """*words* beside *head*, which takes *indent* columns, and below each other where they are long."""
    lines = textwrap.wrap(words, max(20, _WIDTH - indent), break_on_hyphens=False, break_long_words=False) or [""]
    return [f"{head}{lines[0]}".rstrip(), *(f"{' ' * indent}{line}" for line in lines[1:])]


def _log(name: str, title: str, lines: list[Any], paint: Paint) -> list[str]:
    if not lines:
        return []
    shown = [f"       │ {text.clean(str(line)).rstrip()[:400]}".rstrip() for line in lines]
    return ["", f"{paint(f'{name:<6}', 'strong')} {title}", *shown]
