"""
The app's output: one file that the app itself appends to, so that it never breaks because a supervisor died.

Rotation copies and truncates, since the app holds the file open; what it writes within the microseconds between the last
read and the truncation is lost (as with logrotate's copytruncate).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

MAX_BYTES = 10 * 1024 * 1024
KEPT = 5


def open_output(path: Path) -> int:
    """A descriptor that appends to *path*, 0600."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def rotate(path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> bool:
    """Whether *path* was larger than *max_bytes* and has been moved to `path.1`, `path.1` to `path.2` and so on."""
    if size(path) <= max_bytes:
        return False
    for number in range(kept - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            os.replace(older, path.with_name(f"{path.name}.{number + 1}"))
    copy = path.with_name(f"{path.name}.1")
    with open(path, "rb") as source, open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
        while True:
            piece = source.read(1 << 20)
            if not piece:
                break
            sink.write(piece)
        os.truncate(path, 0)
    return True


def tail(path: Path, lines: int, offset: int = 0, limit: int = 256 * 1024) -> List[str]:
    """The last *lines* lines of *path* after *offset* bytes, reading at most *limit* bytes."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            start = offset if offset <= end else 0  # rotated meanwhile
            file.seek(max(start, end - limit))
            text = file.read(limit).decode("utf-8", "replace")
    except OSError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []
