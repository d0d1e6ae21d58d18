"""Colours, which underline what the words already say; never the only sign."""

from __future__ import annotations

import os
from dataclasses import dataclass

_CODES = {"good": "32", "bad": "1;31", "warn": "33", "dim": "2", "strong": "1"}


@dataclass(frozen=True)
class Paint:
    """Wraps words in colour where `enabled`."""

    enabled: bool = False

    def __call__(self, text: str, style: str) -> str:
        code = _CODES.get(style)
        return f"\x1b[{code}m{text}\x1b[0m" if self.enabled and code and text.strip() else text


def colours_wanted(is_terminal: bool, no_color: bool) -> bool:
    """Colours go to a terminal only, and not where a person has said no (https://no-color.org)."""
    return is_terminal and not no_color and not os.environ.get("NO_COLOR")
