"""What `deployer drain` has done, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.lines import Layout, Line


def drain_lines(data: Mapping[str, Any], extend: float | None, target: str) -> list[str]:
    """A line for each drain that was moved, or that there was none."""
    layout = Layout(tuple(str(host["host"]) for host in data["hosts"]))
    lines = [layout.text(_line(str(host["host"]), one, extend)) for host in data["hosts"] for one in host["drains"]]
    return lines or [f"nothing drains on {target}"]


def _line(host: str, moved: Mapping[str, Any], extend: float | None) -> Line:
    pid, ceiling = f"pid {moved['pid']}", text.took(moved.get("ceiling_s"))
    if extend is None:
        return Line(host, "drain", "ok", "", f"{pid} is ended now; what it has not done by then is lost")
    whole = f": {ceiling} in all" if ceiling else ""
    return Line(host, "drain", "ok", "", f"{pid} may take {text.took(extend)} more{whole}")
