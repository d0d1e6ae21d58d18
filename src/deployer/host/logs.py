"""
The app's output: one file that the app itself appends to, so that it never breaks because a supervisor died.

Rotation copies and truncates, since the app holds the file open; what it writes within the microseconds between the last
read and the truncation is lost (as with logrotate's copytruncate).
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO, List, Optional, Tuple

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
    """
    Whether *path* was larger than *max_bytes* and has been moved to `path.1`, `path.1` to `path.2` and so on.

    Raises OSError when the disk refuses the copy; then *path* is as it was.
    """
    if size(path) <= max_bytes:
        return False
    copy = path.with_name(f"{path.name}.new")
    try:
        sink_fd = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(sink_fd, "wb") as sink, open(path, "rb") as source:
            _copy(source, sink)
            sink.flush()
            os.truncate(path, 0)
    except OSError:
        _remove(copy)
        raise
    for number in range(kept - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            os.replace(older, path.with_name(f"{path.name}.{number + 1}"))
    os.replace(copy, path.with_name(f"{path.name}.1"))
    return True


def tail(path: Path, lines: int, offset: int = 0, limit: int = 256 * 1024, until: Optional[int] = None) -> List[str]:
    """The last *lines* lines of *path* after *offset* bytes and before *until*, reading at most *limit* bytes."""
    found = tail_bytes(path, lines, offset, limit, until)[0]
    return [line.decode("utf-8", "replace").rstrip("\r\n") for line in lines_of(found)]


def tail_bytes(
    path: Path, lines: int, offset: int = 0, limit: int = 256 * 1024, until: Optional[int] = None
) -> Tuple[bytes, int]:
    """The last *lines* lines of *path* as they are, an unfinished last one too, and the position after them."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            end = end if until is None else min(end, until)
            start = max(offset if offset <= end else 0, end - limit)  # beyond the end: rotated meanwhile
            file.seek(start)
            data = file.read(end - start)
    except OSError:
        return b"", 0
    return b"".join(lines_of(data)[-lines:] if lines > 0 else []), start + len(data)


def lines_of(data: bytes) -> List[bytes]:
    """The lines of *data* with their ends; a progress bar's carriage returns are no ends."""
    return io.BytesIO(data).readlines()


def _copy(source: BinaryIO, sink: BinaryIO) -> None:
    while True:
        piece = source.read(1 << 20)
        if not piece:
            return
        sink.write(piece)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass
