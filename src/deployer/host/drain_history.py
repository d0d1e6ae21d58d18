"""How long the drains of this app have taken: what a person may expect of the next one, and whether the ceiling leaves room."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

from deployer.durations import show, usual
from deployer.host.drain import CRASH
from deployer.host.journal import timestamp
from deployer.host.state import Row, State

LOOKED_BACK = 50
"""Drains that count: enough for a median that one odd day does not move, few enough that an app made quicker shows soon."""
CLOSE = 0.8
"""The share of the ceiling from which the longest drain seen is worth a warning: the next one may be a fifth longer."""

Past = Dict[str, Any]

_COUNTED = """
  FROM drains d JOIN instances i ON i.id=d.instance LEFT JOIN deploys p ON p.id=d.deploy
  WHERE d.verdict IS NOT NULL AND d.who IS NOT ? AND i.confirmed=1 AND (p.id IS NULL OR d.asked_at >= p.started_at)
  ORDER BY d.asked_at DESC, d.rowid DESC LIMIT ?"""
"""A drain that is older than the deploy it belongs to is what a crash had left, taken over by that deploy."""


def past(state: State) -> Optional[Past]:
    """
    `count`, `median_s`, `longest_s`, `at_least`, `killed`, `last` of this app's last 50 drains, and `text` that says it for
    a person ("usually 42s, longest 3m10s (last 14 drains)"); None when there are none.

    What a crash left behind does not count, nor does a release that never proved itself: nobody was waiting for its work. A
    drain that ended `killed` was not finished: its length is the least that it would have taken; `at_least` says that the
    longest is such a one.
    """
    drains = [_ended(row) for row in state.rows(f"SELECT d.verdict, d.asked_at {_COUNTED}", CRASH, LOOKED_BACK)]
    if not drains:
        return None
    longest = max(drains, key=lambda one: (one["waited_s"], one["verdict"] == "killed"))
    found: Past = {
        "count": len(drains),
        "median_s": _median([one["waited_s"] for one in drains]),
        "longest_s": longest["waited_s"],
        "at_least": longest["verdict"] == "killed",
        "killed": sum(one["verdict"] == "killed" for one in drains),
        "last": drains[0],
    }
    return {**found, "text": _text(found)}


def counted(state: State) -> List[str]:
    """The instances whose drains `past` looks at."""
    return [row["instance"] for row in state.rows(f"SELECT d.instance {_COUNTED}", CRASH, LOOKED_BACK)]


def expected(found: Optional[Past]) -> Optional[Past]:
    """What an event says of *found*: `count`, `median_s`, `longest_s`, `at_least`."""
    return None if found is None else {name: found[name] for name in ("count", "median_s", "longest_s", "at_least")}


def warning(found: Optional[Past], ceiling: float) -> Optional[str]:
    """
    What to be warned of before a drain under *ceiling* (seconds); None where it leaves room, and without a history.

    A drain that was killed under a ceiling much lower than this one is no reason: somebody has raised it since.
    """
    if found is None or found["longest_s"] < CLOSE * ceiling:
        return None
    longest, limit = show(found["longest_s"]), show(ceiling)
    if found["at_least"]:
        seen = f"a drain was killed after {longest}, and the ceiling is {limit}: work may be lost again"
    elif found["longest_s"] < ceiling:
        seen = f"the ceiling of {limit} is close to the longest drain seen, {longest}"
    else:
        seen = f"the ceiling of {limit} is shorter than the longest drain seen, {longest}"
    return f"{seen}; raise drain.ceiling, or let the app finish or save its work sooner"


def _median(values: List[float]) -> float:
    # The standard library's own costs every start of the engine 10 ms.
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else round((ordered[half - 1] + ordered[half]) / 2, 3)


def _text(found: Past) -> str:
    words = usual(found["median_s"], found["longest_s"], found["count"], found["at_least"])
    return words if found["count"] == 1 else f"{words} (last {found['count']} drains)"


def _ended(row: Row) -> Dict[str, Any]:
    verdict = json.loads(row["verdict"])
    return {"at": timestamp(row["asked_at"]), "waited_s": float(verdict["waited_s"]), "verdict": verdict["verdict"]}
