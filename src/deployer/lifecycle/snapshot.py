"""What a process leaves for the one after it: a file of plain JSON, written whole or not at all."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Optional

from deployer.lifecycle.voice import name_of, say


def default_path() -> Optional[str]:
    """`$STATE_DIRECTORY/lifecycle.json` (the first, where systemd names several); None where that is not set."""
    directory = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return f"{directory}/lifecycle.json" if directory else None


def load(path: Optional[str]) -> Optional[Dict[str, Any]]:
    """What the last process left at *path*; None where there is nothing, or, with a warning, nothing of use."""
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        if not isinstance(found, dict):
            raise ValueError(f"a JSON object was expected, not {type(found).__name__}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        say(f"what the last process left in {path} cannot be read, so `previous` is None: {name_of(error)}")
        return None
    return found


def save(path: Optional[str], left: Dict[str, Any]) -> None:
    """Replace *path* by *left*, mode 0600, in one step. Never raises: what goes wrong is said, and the older file stays."""
    if path is None:
        return
    beside = f"{path}.{os.getpid()}.new"
    try:
        _write(beside, json.dumps(left, allow_nan=False).encode())
        os.replace(beside, path)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        say(f"the state was not saved in {path}: {name_of(error)}; the stop goes on")
        _remove(beside)


def plain(value: Any) -> Any:
    """*value*, if it is plain JSON. Raises TypeError or ValueError."""
    return json.loads(json.dumps(value, allow_nan=False))


def _write(path: str, data: bytes) -> None:
    _remove(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
