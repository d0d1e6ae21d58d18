"""How long launchd lets a job stop: `ExitTimeOut` of its property list. Read from files; launchd itself is not asked."""

from __future__ import annotations

import os
import plistlib
from pathlib import Path
from typing import Iterator, Optional, Tuple
from xml.parsers.expat import ExpatError

DEFAULT = 20.0
"""Seconds until SIGKILL where a plist sets none."""
PLACES = ("~/Library/LaunchAgents", "/Library/LaunchAgents", "/Library/LaunchDaemons")


def exit_timeout(label: str, places: Tuple[str, ...] = PLACES) -> Optional[Tuple[Optional[float], str, bool]]:
    """
    Seconds (None: for ever), the plist's path, and whether it sets them, of the job *label*. None where no plist has it.
    """
    for path in _plists(places, label):
        job = _job(path)
        if job.get("Label") == label:
            limit = job.get("ExitTimeOut")
            if isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0:
                return (float(limit) or None, str(path), True)
            return (DEFAULT, str(path), False)
    return None


def _plists(places: Tuple[str, ...], label: str) -> Iterator[Path]:
    """Every plist of *places*, those named after *label* first: nearly all are."""
    for place in places:
        directory = Path(os.path.expanduser(place))
        try:
            files = sorted(directory.glob("*.plist"))
        except OSError:
            continue
        yield from sorted(files, key=lambda path: path.stem != label)


def _job(path: Path) -> dict:  # type: ignore[type-arg]
    try:
        with open(path, "rb") as file:
            found = plistlib.load(file)
    except (OSError, ValueError, ExpatError, plistlib.InvalidFileException):
        return {}
    return found if isinstance(found, dict) else {}
