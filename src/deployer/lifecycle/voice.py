"""What the library says to people: lines on stderr, whatever has become of stderr."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Write *text* as a line on stderr. Never raises: a closed stderr must not stop a stop."""
    try:
        sys.stderr.write(f"lifecycle: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def trace(error: BaseException) -> str:
    """The traceback of *error*, as Python prints it."""
    import traceback  # only when something went wrong: the import costs

    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def name_of(error: BaseException) -> str:
    """*error* in one line: its type and what it says."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}"[:300] if said else type(error).__name__
