"""Plain aligned tables: the releases on a host, the deploys of the past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployer.cli.render import census, text
from deployer.cli.render.many import FEW, answered, named, table
from deployer.cli.render.paint import Paint


def release_lines(data: Mapping[str, Any], paint: Paint) -> list[str]:
    """The releases of each host; `*` marks the one in use. Of many hosts: on how many each release is."""
    hosts = answered(data)
    if len(hosts) > FEW:
        return census.releases(hosts, paint)
    return _hosts(data, "releases", ["", "RELEASE", "CREATED", "FILES", "SIZE", "STATE"], _release, paint)


def history_lines(data: Mapping[str, Any], target: str, paint: Paint) -> list[str]:
    """
    The deploys of each host: what was done, by whom, how each drain ended; and how to see one of them in detail.

    Of many hosts: how each deploy ended on how many.
    """
    hosts = answered(data)
    head = ["DEPLOY", "STARTED", "KIND", "RELEASE", "STATUS", "EXIT", "TOOK", "DRAIN", "WHO"]
    many = len(hosts) > FEW
    lines = census.deploys(hosts, paint) if many else _hosts(data, "deploys", head, _deploy, paint)
    known = [item for host in hosts for item in host.get("deploys") or []]
    if not known:
        return lines
    last = text.one_line(max(known, key=lambda item: str(item.get("started_at") or "")).get("deploy"), 80)
    return [*lines, "", f"{paint('hint:', 'strong')} deployer explain {target} {last}"]


def _hosts(data: Mapping[str, Any], key: str, head: list[str], row: Any, paint: Paint) -> list[str]:
    lines: list[str] = []
    for host in answered(data):
        rows = [row(item) for item in host.get(key) or []]
        lines += named(data["hosts"], host.get("host"), paint)
        lines += table(head, rows, paint) if rows else [f"no {key} on {host.get('host')}"]
    return lines


def _release(item: Mapping[str, Any]) -> list[str]:
    count = item.get("bytes")
    size = text.size(count) if isinstance(count, int) else "-"
    mark = "*" if item.get("current") else ""
    return [mark, _cell(item, "id"), _when(item.get("created_at")), _cell(item, "files"), size, _cell(item, "state")]


def _deploy(item: Mapping[str, Any]) -> list[str]:
    spent = text.took(text.between(item.get("started_at"), item.get("ended_at")))
    drains = item.get("drains") or [item]
    plain = [_cell(item, key) for key in ("kind", "release", "status", "exit_code")]
    return [
        _cell(item, "deploy"),
        _when(item.get("started_at")),
        *plain,
        spent or "-",
        ", ".join(filter(None, map(_drain, drains))) or "-",
        _cell(item, "who"),
    ]


def _drain(one: Mapping[str, Any]) -> str:
    return " ".join(str(part) for part in (one.get("verdict"), text.took(one.get("waited_s"))) if part)


def _cell(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return "-" if value is None else str(value)


def _when(value: object) -> str:
    parsed = text.moment(value)
    return parsed.strftime("%Y-%m-%d %H:%M:%S") if parsed else "-" if value is None else str(value)
