"""Files that a proxy reads: replaced as a whole, under the owner and mode that they had."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Optional

NEW_MODE = 0o644
"""Of a file that was not there: a proxy runs as somebody else and must read it."""


def replace(path: Path, data: bytes) -> None:
    """
    *path* has all of *data* or what it had before, also after a power cut. Raises OSError.

    The name of the temporary file begins with a dot, which no `include *` of a proxy matches.
    """
    temporary = beside(path, "next")
    like = _stat(path)
    fd = os.open(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            if like is not None and (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                _give(fd, like)
            os.fchmod(fd, stat.S_IMODE(like.st_mode) if like is not None else NEW_MODE)
            file.flush()
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def beside(path: Path, what: str) -> Path:
    """A name of ours in the directory of *path*."""
    return path.with_name(f".{path.name}.deployer-{what}")


def sync(directory: Path) -> None:
    """The names in *directory* are on its disk."""
    fd = os.open(str(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _stat(path: Path) -> Optional[os.stat_result]:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _give(fd: int, like: os.stat_result) -> None:
    try:
        os.fchown(fd, like.st_uid, like.st_gid)
    except PermissionError:
        pass  # ours then; whoever could read it by its mode still can
