"""What the library says to people: lines on stderr, whatever has become of stderr."""

from __future__ import annotations

import select
import sys
from typing import Any

_ROOM_WITHIN = 1.0
"""Seconds for somebody to read a pipe that is full: more, and the words are lost, for the stop goes on."""
_PIECE = 1000
"""Characters that fit where a pipe says that it has room (4 KiB)."""


def say(text: str) -> None:
    """Write *text* as a line on stderr. Never raises, never waits long: a stderr that is closed or full must not stop a stop."""
    line = f"lifecycle: {text}\n"
    try:
        for start in range(0, len(line), _PIECE):
            if not _has_room(sys.stderr):
                return
            sys.stderr.write(line[start : start + _PIECE])
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def _has_room(stream: Any) -> bool:
    try:
        number = stream.fileno()
    except (OSError, ValueError, AttributeError):  # what takes its place in a test, say
        return True
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(_ROOM_WITHIN * 1000))


def trace(error: BaseException) -> str:
    """The traceback of *error*, as Python prints it."""
    import traceback  # only when something went wrong: the import costs

    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def name_of(error: BaseException) -> str:
    """*error* in one line: its type and what it says."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}"[:300] if said else type(error).__name__
