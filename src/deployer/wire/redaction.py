"""Secrets stay out of whatever is stored, sent or shown: *** in the place of every value."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Set

HIDES_NOTHING = 3
"""A value shorter than this would blacken half of every text."""
LINE_TELLS = 8
"""A line of a longer value (a key in PEM form) is a secret too, from this length on: outputs are cut into lines."""


class Redactor:
    """Puts *** in the place of every secret value, in any text of any structure."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = sorted(_telling(values.values()), key=len, reverse=True)

    def __call__(self, data: Any) -> Any:
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, dict):
            return {key: self(value) for key, value in data.items()}
        if isinstance(data, (list, tuple)):
            return [self(value) for value in data]
        return data

    def text(self, text: str) -> str:
        """*text* without the values."""
        for value in self._values:
            text = text.replace(value, "***")
        return text

    def whole(self, data: bytes, at: int) -> int:
        """Where *data* can be cut, at *at* or a little before, and no value in two; behind one with which it begins."""
        values = [value.encode() for value in self._values]
        found = next((value for value in values if 0 <= _around(data, value, at) < at), None)
        while found is not None:
            begin = _around(data, found, at)
            if begin == 0:
                return len(found)
            at = begin
            found = next((value for value in values if 0 <= _around(data, value, at) < at), None)
        return at

    @property
    def longest(self) -> int:
        """Bytes of the longest value."""
        return max((len(value.encode()) for value in self._values), default=0)


def _around(data: bytes, value: bytes, at: int) -> int:
    """Where *value* begins in *data* so that *at* is within it; -1 where it is not."""
    return data.find(value, max(0, at - len(value) + 1), at + len(value) - 1)


def _telling(values: Iterable[str]) -> Set[str]:
    found: Set[str] = set()
    for value in values:
        whole = value.strip()
        found |= {text for text in (value, whole) if len(text) >= HIDES_NOTHING}
        found |= {line.strip() for line in whole.splitlines() if len(line.strip()) >= LINE_TELLS}
    return found
