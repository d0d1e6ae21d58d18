"""The engine's own log: what its parts say on stderr. It never costs anybody anything: a full disk swallows it."""

from __future__ import annotations

import sys
import traceback


def say(text: str) -> None:
    """Write *text* as a line of its own, or nothing where the disk refuses."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def say_why() -> None:
    """Write down the exception that is being handled."""
    say(traceback.format_exc().rstrip())
