"""What was seen, as tables: losses by class, stalls next to the steady p99.9, the witness next to the load."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.figures import Figure, Grid, Table
from benchmarks.swap.measure import Seen
from benchmarks.swap.ways import WAYS

STALL = 2.0
"""Times the steady p99.9 that the longest stall of an overlap may take."""


def compared(title: str, all_seen: Sequence[Seen]) -> list[Grid | Table]:
    """
    Who lost what, who stalled for how long; then what deployer is held to.

    `late`: the longest time that the load itself was kept from sending; `busy`: the load average. Both are the machine's.
    """
    calm = ["steady p99.9", "steady stall"]
    head = ["", "replaced", "requests", "lost", "longest stall", "p99.9", *calm, "took", "late", "busy"]
    rows = [
        [
            WAYS[one.name].title, f"{len(one.told)} x", f"{one.swap['sent']:,}", losses(one.swap), ms(stall(one.swap)),
            ms(p999(one.swap)), ms(p999(one.steady)), ms(stall(one.steady)),
            f"{statistics.median(told.seconds for told in one.told):.1f} s", ms(one.load["late_ms"]), f"{one.busy:.1f}",
        ]
        for one in all_seen
    ]  # fmt: skip
    return [
        Grid(title, head, rows, [raw(one) for one in all_seen]),
        *_goals(title, all_seen),
        *_witness(title, all_seen),
    ]


def broken(all_seen: Sequence[Seen]) -> list[Grid | Table]:
    """What a broken release did to the service, and what its tool said of it."""
    head = ["", "the new release", "exit code", "requests", "lost", "longest stall", "afterwards", "busy"]
    rows = [
        [
            WAYS[one.name].title, one.how, str(one.told[0].exit_code), f"{one.swap['sent']:,}", losses(one.swap),
            ms(stall(one.swap)), one.after, f"{one.busy:.1f}",
        ]
        for one in all_seen
    ]  # fmt: skip
    ours = [one for one in all_seen if WAYS[one.name].ours]
    goals = [Figure(f"{WAYS[one.name].title}, {one.how}: lost", [one.swap["lost"]], "requests", 0) for one in ours]
    title = "swap · a broken release"
    return [
        Grid(title, head, rows, [raw(one) for one in all_seen]),
        *([Table(f"{title} · goals", goals)] if goals else []),
    ]


def losses(phase: dict[str, Any]) -> str:
    """How many, then by class: `12 (9 refused, 3 cut)`."""
    classes = [f"{found['count']} {name}" for name, found in phase["losses"].items() if found["count"]]
    return f"{phase['lost']} ({', '.join(classes)})" if classes else "0"


def stall(phase: dict[str, Any]) -> float:
    return float(phase["longest_stall_ms"])


def p999(phase: dict[str, Any]) -> float | None:
    found = phase["latency_ms"]["p99.9"]
    return None if found is None else float(found)


def ms(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f} ms"


def raw(one: Seen) -> dict[str, Any]:
    """All that is known, for --json."""
    told = [{"seconds": told.seconds, "exit_code": told.exit_code, "witness": told.witness} for told in one.told]
    return {"name": one.name, "broken": one.how, "after": one.after, "busy": one.busy, "told": told, "load": one.load}


def _goals(title: str, all_seen: Sequence[Seen]) -> list[Table]:
    figures = []
    for one in all_seen:
        choice = WAYS[one.name]
        if choice.ours:
            figures.append(Figure(f"{choice.title}: lost", [one.swap["lost"]], "requests", 0))
            figures.append(Figure(f"{choice.title}: failed pushes", [sum(t.exit_code != 0 for t in one.told)], "", 0))
        calm = p999(one.steady)
        if choice.overlaps and calm:
            figures.append(
                Figure(f"{choice.title}: longest stall / steady p99.9", [stall(one.swap) / calm], "x", STALL)
            )
    return [Table(f"{title} · goals", figures)] if figures else []


def _witness(title: str, all_seen: Sequence[Seen]) -> list[Grid]:
    """The sums and the worst of what `push.finished` has from the witness, next to what the load saw meanwhile."""
    rows = []
    for one in all_seen:
        told = [told.witness for told in one.told if told.witness]
        if told:
            gaps = [found["longest_gap_ms"] for found in told if found["longest_gap_ms"] is not None]
            slowest = [found["slowest_ms"] for found in told if found["slowest_ms"] is not None]
            failed, asked = sum(found["failed"] for found in told), sum(found["probes"] for found in told)
            rows.append([
                WAYS[one.name].title, f"{failed} of {asked:,}", f"{one.swap['lost']} of {one.swap['sent']:,}",
                ms(max(gaps, default=None)), ms(stall(one.swap)), ms(max(slowest, default=None)), ms(one.swap["latency_ms"]["max"]),
            ])  # fmt: skip
    head = ["", "witness: failed", "load: lost", "witness: gap", "load: stall", "witness: slowest", "load: slowest"]
    return [Grid(f"{title} · the witness next to the load", head, rows, [])] if rows else []
