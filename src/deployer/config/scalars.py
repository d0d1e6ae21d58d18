"""Durations, counts, choices and shares: the plain values of `deploy.toml`."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable

from deployer import durations
from deployer.config.rejected import Rejected

_LARGEST_COUNT = 1_000_000


def duration(value: object) -> float:
    """Seconds, more than zero, from a string with a unit."""
    seconds = duration_or_zero(value)
    if seconds == 0:
        raise Rejected("zero; this duration must be longer", 'write {key} = "30s" or longer, or leave it out')
    return seconds


def duration_or_zero(value: object) -> float:
    """Seconds, zero or more, from a string with a unit."""
    if not isinstance(value, str):
        raise _unitless(value)
    if value.strip().startswith("-"):
        raise Rejected("a negative duration", f'write {{key}} = "{value.strip().lstrip("-") or "30s"}"')
    try:
        seconds = durations.parse(value)
    except ValueError:
        raise Rejected("not a duration; durations carry a unit", _with_unit(value)) from None
    if not seconds <= durations.LONGEST:
        raise Rejected("longer than a year", 'write {key} = "11m", for example')
    return seconds


def _with_unit(text: str) -> str:
    number = text.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", number):
        return f'write {{key}} = "{number}s" or "{number}ms"'
    return 'write {key} = "90s", "11m", "1h30m" or "250ms"'


def _unitless(value: object) -> Rejected:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return Rejected("a bare number; durations carry a unit", _with_unit(str(abs(value))))
    return Rejected("not a duration", _with_unit(""))


def count(least: int, most: int = _LARGEST_COUNT) -> Callable[[object], int]:
    """A validator for whole numbers from *least* up to *most*."""

    def whole(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Rejected("not a whole number", f"write {{key}} = {max(least, 1)}, without quotes")
        if not least <= value <= most:
            near = most if value > most < _LARGEST_COUNT else max(least, 1)
            raise Rejected(f"out of range; {least} or more, up to {most}", f"write {{key}} = {near}")
        return value

    return whole


def flag(value: object) -> bool:
    """True or false, and nothing that only looks like it."""
    if not isinstance(value, bool):
        raise Rejected("neither true nor false", "write {key} = true or {key} = false, without quotes")
    return value


def choice(*known: str, refused: str = "") -> Callable[[object], str]:
    """A validator for one of *known*; *refused* explains, before the list, what people try and may not have."""

    def chosen(value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        near = difflib.get_close_matches(str(value), known, 1)
        listed = " or ".join(f'"{name}"' for name in known)
        suggestion = f'did you mean "{near[0]}"? ' if near else ""
        raise Rejected(f"not one of {', '.join(known)}{refused}", f"{suggestion}write {{key}} = {listed}")

    return chosen


def batch(value: object) -> int | str:
    """A number of hosts, or a share of them such as "25%"."""
    hint = 'write {key} = 2, or {key} = "25%"'
    if isinstance(value, str):
        share = re.fullmatch(r"([0-9]{1,3})%", value)
        if not share or not 1 <= int(share[1]) <= 100:
            raise Rejected("not a share from 1% to 100%", hint)
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_COUNT:
        raise Rejected("neither a number of hosts nor a share", hint)
    return value
