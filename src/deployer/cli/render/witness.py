"""What the witness saw, in words: a part of the last line, and a line for each phase in which probes failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployer.cli.render import text
from deployer.cli.render.lines import Layout


def in_short(event: Mapping[str, Any]) -> str | None:
    """`0 of 1,204 probes failed`; None where nobody watched."""
    seen = event.get("witness")
    return _failed(seen) + " probes failed" if isinstance(seen, Mapping) else None


def lines(event: Mapping[str, Any], layout: Layout) -> list[str]:
    """A line for each phase in which probes failed."""
    seen = event.get("witness")
    phases = seen.get("phases") if isinstance(seen, Mapping) else None
    of = phases.items() if isinstance(phases, Mapping) else ()
    return [layout.headed("seen", _phase(str(name), one)) for name, one in of if one.get("failed")]


def _phase(name: str, seen: Mapping[str, Any]) -> str:
    kinds = ", ".join(f"{count:,} {text.one_line(kind, 20)}" for kind, count in (seen.get("kinds") or {}).items())
    gap = seen.get("longest_gap_ms")
    longest = f"longest {text.gap(gap)}" if isinstance(gap, int | float) else None
    return text.joined(f"{text.one_line(name, 20)}: {_failed(seen)} probes failed ({kinds})", longest)


def _failed(seen: Mapping[str, Any]) -> str:
    return f"{seen.get('failed') or 0:,} of {seen.get('probes') or 0:,}"
