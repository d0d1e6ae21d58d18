"""What a push would do, host by host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deployer.cli.render import census, text
from deployer.cli.render.errors import warning_text
from deployer.cli.render.lines import Layout
from deployer.cli.render.many import FEW, answered
from deployer.cli.render.paint import Paint


def plan_lines(data: Mapping[str, Any], paint: Paint) -> list[str]:
    """Each host's steps (of many hosts: which would do the same), then what to be warned of, and that nothing was changed."""
    hosts = answered(data)
    layout = Layout(tuple(str(host.get("host")) for host in hosts) if len(hosts) <= FEW else (), paint)
    lines = _many(hosts, layout) if len(hosts) > FEW else [line for host in hosts for line in _host(host, layout)]
    lines += [warning_text(str(warning), paint) for warning in data.get("warnings") or []]
    return [*lines, layout.headed("plan", "nothing was changed")]


def _host(host: Mapping[str, Any], layout: Layout) -> list[str]:
    name = f"{text.one_line(host.get('host'), 40):<{layout.width}}"
    lines = [f"{name}  {text.one_line(step.get('step'), 20):<8} {text.one_line(step.get('what'), 400)}".rstrip()
             for step in host.get("steps") or []]  # fmt: skip
    if not lines:
        lines = [f"{name}  nothing to do, already on {host.get('release') or 'this release'}"]
    lines += [f"{layout.indent}{text.one_line(line, 300)}" for line in host.get("units") or []]
    return [*lines, *(warning_text(f"{name.strip()}: {item}", layout.paint) for item in host.get("warnings") or [])]


def _many(hosts: Sequence[Mapping[str, Any]], layout: Layout) -> list[str]:
    warned: dict[str, list[object]] = {}
    for host in hosts:
        for item in host.get("warnings") or []:
            warned.setdefault(str(item), []).append(host.get("host"))
    lines = [line for names, words in census.steps(hosts) for line in (names, f"{layout.indent}{words}")]
    return [*lines, *(warning_text(f"{text.names(names, 6)}: {item}", layout.paint) for item, names in warned.items())]
