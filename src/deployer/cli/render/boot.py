"""What `enable` and `disable` did, host by host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.lines import Layout
from deployer.cli.render.many import FEW, answered, counted
from deployer.cli.render.paint import Paint


def boot_lines(data: Mapping[str, Any], paint: Paint) -> list[str]:
    """A line for each host; of many hosts how many came to the same end."""
    hosts = answered(data)
    if len(hosts) > FEW:
        return [f"{text.plural(len(hosts), 'host')}: {counted([_outcome(host) for host in hosts])}"]
    width = Layout(tuple(str(host.get("host")) for host in hosts)).width
    return [f"{text.one_line(host.get('host'), 40):<{width}}  {paint(*_styled(host))}" for host in hosts]


def _styled(host: Mapping[str, Any]) -> tuple[str, str]:
    return text.one_line(_outcome(host), 400), "good" if host.get("comes_up") else "dim"


def _outcome(host: Mapping[str, Any]) -> str:
    changed = "" if host.get("changed") else ", as before"
    if host.get("comes_up"):
        return f"enabled: comes up after a reboot ({host.get('where')}){changed}"
    return f"disabled: stays down after a reboot{changed}"
