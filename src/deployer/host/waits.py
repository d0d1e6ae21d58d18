"""Where the time of a deploy went: the entries of a timeline as shares of the whole, the longest first."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Tuple

from deployer.durations import show

Entry = Dict[str, Any]

WORDS = {
    "lock": "waiting for the lock",
    "prepare": "building and sending",
    "stage": "staging",
    "install": "installing",
    "check": "checking",
    "rehearse": "rehearsing",
    "adopt": "taking it over",
    "quiet": "asking for quiet",
    "wait_idle": "looking for an idle moment",
    "drain": "waiting for the old process's work",
    "start": "starting",
    "pool": "waiting for the pool",
    "revert": "going back to the old release",
    "prune": "pruning",
}
SAID = 4
"""Shares that the sum names."""
WORTH = 0.02
"""The least share of the whole that the sum names; what is less, and what nobody accounts for, is the rest."""


def waits(entries: List[Entry], total: float, so_far: bool) -> Dict[str, Any]:
    """`total_s`, `parts` (`what`, `took_s`, `text`), the longest first, and `summary`, which says it in one line."""
    names = sorted({str(entry["part"]) for entry in entries if entry["part"] in WORDS})
    parts = [{"what": name, "took_s": _covered(entries, name), "text": _words(entries, name)} for name in names]
    parts.sort(key=lambda part: -float(str(part["took_s"])))
    return {"total_s": round(total, 3), "parts": parts, "summary": _summary(parts, total, so_far)}


def _summary(parts: List[Dict[str, Any]], total: float, so_far: bool) -> str:
    named = [part for part in parts if part["took_s"] >= WORTH * total and part["took_s"] > 0][:SAID]
    rest = total - sum(part["took_s"] for part in named)
    said = [f"{show(part['took_s'])} {part['text']}" for part in named]
    said += [f"{show(rest)} for the rest"] if named and rest >= WORTH * total else []
    return f"{show(total)} {'so far' if so_far else 'in all'}{': ' if said else ''}{', '.join(said)}"


def _words(entries: List[Entry], name: str) -> str:
    # Who had no work was only waited for to go.
    idle = name == "drain" and not any(
        "finish" in str(entry["waited_for"]) for entry in entries if entry["part"] == name
    )
    return "waiting for the old process to exit" if idle else WORDS[name]


def _covered(entries: List[Entry], name: str) -> float:
    """The seconds in which something of *name* went on: two at once count once."""
    return round(
        _union((one["at_s"], one["at_s"] + (one["took_s"] or 0.0)) for one in entries if one["part"] == name), 3
    )


def _union(spans: Iterable[Tuple[float, float]]) -> float:
    length, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        length += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return length
