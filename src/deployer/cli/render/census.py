"""Releases, deploys, steps and timelines of many hosts in one table each: what is alike is told once, with its count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.many import counted, table
from deployer.cli.render.paint import Paint

Data = Mapping[str, Any]


def releases(hosts: Sequence[Data], paint: Paint) -> list[str]:
    """A row for each release: on how many hosts it is, and on how many in use."""
    found = _by(hosts, "releases", "id")
    rows = [
        [name, _when(items[0]), f"{len(items)}", f"{sum(bool(item.get('current')) for item in items)}",
         counted([item.get("state") for item in items])]
        for name, items in sorted(found.items(), key=lambda each: str(each[1][0].get("created_at") or ""), reverse=True)
    ]  # fmt: skip
    return table(["RELEASE", "CREATED", "HOSTS", "IN USE", "STATE"], rows, paint) if rows else ["no releases"]


def deploys(hosts: Sequence[Data], paint: Paint) -> list[str]:
    """A row for each deploy: how it ended on how many hosts."""
    found = _by(hosts, "deploys", "deploy")
    ordered = sorted(found.items(), key=lambda each: str(each[1][0].get("started_at") or ""), reverse=True)
    rows = [
        [name, _when(items[0], "started_at"), str(items[0].get("kind")), counted([_end(item) for item in items]),
         _longest(items), str(items[0].get("who") or "-")]
        for name, items in ordered
    ]  # fmt: skip
    return table(["DEPLOY", "STARTED", "KIND", "HOSTS", "LONGEST", "WHO"], rows, paint) if rows else ["no deploys"]


def timelines(hosts: Sequence[Data], paint: Paint) -> list[str]:
    """A row for each host: how its part of the deploy ended, and where the time went. Those that did not go well come first."""
    ordered = sorted(hosts, key=lambda host: (host.get("deploy") or {}).get("status") in ("done", "unchanged", None))
    rows = [
        [str(host.get("host")), _end(host.get("deploy") or {"status": "took no part"}),
         str((host.get("waits") or {}).get("summary") or "-")]
        for host in ordered
    ]  # fmt: skip
    return [
        *table(["HOST", "STATUS", "TIME"], rows, paint),
        "",
        f"{paint('hint:', 'strong')} --host H shows its timeline",
    ]


def steps(hosts: Sequence[Data]) -> list[tuple[str, str]]:
    """Which hosts would do what: names, and the steps in one line."""
    found: dict[str, list[object]] = {}
    for host in hosts:
        words = [text.one_line(step.get("step"), 20) for step in host.get("steps") or []]
        found.setdefault(", ".join(words) or f"nothing to do, already on {host.get('release')}", []).append(
            host["host"]
        )
    return [(f"{text.plural(len(names), 'host')}: {text.names(names, 6)}", words) for words, names in found.items()]


def _by(hosts: Sequence[Data], key: str, name: str) -> dict[str, list[Data]]:
    found: dict[str, list[Data]] = {}
    for host in hosts:
        for item in host.get(key) or []:
            found.setdefault(str(item.get(name)), []).append(item)
    return found


def _end(deploy: Data) -> str:
    return str(deploy.get("status") or "under way")


def _longest(items: Sequence[Data]) -> str:
    spent = [text.between(item.get("started_at"), item.get("ended_at")) for item in items]
    known = [seconds for seconds in spent if seconds is not None]
    return text.took(max(known)) if known else "-"


def _when(item: Data, key: str = "created_at") -> str:
    moment = text.moment(item.get(key))
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "-"
