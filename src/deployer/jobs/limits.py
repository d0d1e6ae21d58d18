"""What a caller may write, and what it means: durations, names, choices. UsageError says what is odd and what would do."""

from __future__ import annotations

import re
import time
from typing import Any, Optional, Sequence

from deployer import durations
from deployer.errors import UsageError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


def seconds(value: Any, what: str) -> float:
    """Seconds of *value*, a string with a unit; *what* names it in the error."""
    if isinstance(value, str):
        try:
            found = durations.parse(value)
        except ValueError as error:
            raise UsageError(f"{what}: {error}") from None
        if 0 < found <= durations.LONGEST:
            return found
        raise UsageError(f'{what}: "{value}" is no time that anybody would wait')
    hint = f'; did you mean "{value:g}s"?' if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
    raise UsageError(f"{what} is a string with a unit, such as {chr(34)}5s{chr(34)}, not {value!r}{hint}")


def name(value: Any, what: str) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise UsageError(
        f"{what} is named {value!r}", cause="a name is a letter, then letters, digits, _ and -, 63 at most"
    )


def text(value: Any, what: str) -> str:
    """*value*, which may be a secret: no error shows it."""
    if isinstance(value, str):
        return value
    raise UsageError(f"{what} is a text, not {type(value).__name__}")


def choice(value: Any, among: Sequence[str], what: str) -> str:
    if value in among:
        return str(value)
    raise UsageError(f"{what} is one of {', '.join(map(repr, among))}, not {value!r}")


def count(value: Any, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise UsageError(f"{what} is a whole number from 1 on, not {value!r}")


def function(value: Any, what: str) -> Any:
    if callable(value):
        return value
    raise UsageError(f"{what} takes a function, not {value!r}")


class Deadline:
    """The moment by which something shall have ended, by the monotonic clock; None: whenever."""

    def __init__(self, within: Optional[float]) -> None:
        self.within = within
        self._at = None if within is None else time.monotonic() + within

    def left(self) -> Optional[float]:
        """Seconds to it, never below 0; None where there is none."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.left() == 0.0
