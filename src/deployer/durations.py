"""Durations as people write them ("90s", "11m", "1h30m", "250ms") and as a program counts them (seconds)."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


LONGEST = 365 * 86400.0
"""Seconds: what is longer is a slip of the finger."""


def parse(text: str) -> float:
    """
    Seconds in *text*, such as "90s", "11m", "1h30m" or "250ms".

    Raises ValueError, with a message for a person, when there is no unit or anything else is odd.
    """
    compact = text.strip().replace(" ", "")
    parts = list(_PART.finditer(compact))
    if not parts or "".join(part.group(0) for part in parts) != compact:
        hint = f'; did you mean "{compact}s"?' if re.fullmatch(r"\d+(\.\d+)?", compact) else ""
        raise ValueError(f'"{text}" is not a duration such as "90s", "11m" or "250ms"{hint}')
    return sum(float(part.group(1)) * _UNITS[part.group(2)] for part in parts)


def show(seconds: float) -> str:
    """*seconds* for a person: "83ms", "0.8s", "12s", "4m12s", "1h05m"."""
    if seconds < 0:
        seconds = 0.0
    if seconds < 0.1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s" if rest else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if minutes else f"{hours}h"


def usual(median: float, longest: float, count: int, at_least: bool = False) -> str:
    """
    What to expect of something that took so long before: "usually 42s, longest 3m10s"; "12s last time" where that is all.

    *at_least*: the longest one did not end by itself, so nobody knows how long it would have taken.
    """
    if count == 1:
        return f"{'more than ' if at_least else ''}{show(longest)} last time"
    return f"usually {show(median)}, longest {'more than ' if at_least else ''}{show(longest)}"
