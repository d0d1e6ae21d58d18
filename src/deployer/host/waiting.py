"""Who waits for the deploy lock: a file each, whose flock the kernel frees with its owner, so that none needs cleaning up."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from deployer.errors import LockedError

ROOM = 2048
"""Bytes of a place's text: whoever rewrites it writes as many, so that it is read whole."""

Who = Dict[str, Any]


class Place:
    """
    A place among those who wait for the lock, from `take` to `leave`.

    A push that supersedes marks the pushes that waited before it; each of them gives way at its next look.
    """

    def __init__(self, directory: Path, who: Who) -> None:
        self._path = directory / str(who["deploy"])
        self._who = {**who, "since": who.get("since") or time.time(), "pid": os.getpid()}
        self._fd = -1

    def take(self, supersede: bool) -> None:
        """Be seen waiting; with *supersede*, send the pushes away that were asked for before. Only a courtesy: never raises."""
        try:
            self._take()
            for other in _others(self._path) if supersede else ():
                _supersede(other, self._who)
        except OSError:
            pass  # the disk is full: to wait needs no room

    def _take(self) -> None:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        while self._fd < 0 or not self._is_there():
            self.leave()
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # held by others for the moment of a look only
        _write(self._fd, self._who)

    def _is_there(self) -> bool:
        # Whoever looked between our opening and our locking it took it for that of one who has gone.
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def require_wanted(self) -> None:
        """Raises LockedError once a newer push has superseded this one."""
        by = _read(self._fd).get("superseded_by") if self._fd >= 0 else None
        if by:
            raise LockedError(
                f"superseded by {by.get('deploy')} of {by.get('who')}, which is newer",
                cause="both waited for the same deploy to end, and one was enough",
                state="untouched by this call",
                hint="`deployer attach` follows the newer one once it begins",
            )

    def leave(self) -> None:
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def waiting(directory: Path) -> List[Who]:
    """Who waits now, the longest first."""
    found = []
    for path in _places(directory):
        said = _said_by(path)
        if said and "superseded_by" not in said:
            found.append(said)
    return sorted(found, key=lambda who: float(who.get("since") or 0))


def _others(own: Path) -> Iterator[Path]:
    return (path for path in _places(own.parent) if path != own)


def _places(directory: Path) -> List[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _said_by(path: Path) -> Optional[Who]:
    """What the owner of a place says of itself; None, and the place is cleared, when it has gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(fd)
    else:
        path.unlink(missing_ok=True)
        return None
    finally:
        os.close(fd)


def _supersede(path: Path, by: Who) -> None:
    said = _said_by(path)
    if not said or said.get("kind") != "push" or "superseded_by" in said or _age(said) >= _age(by):
        return
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # it has just stopped waiting
    try:
        _write(fd, {**said, "superseded_by": {name: by[name] for name in ("deploy", "who")}})
    finally:
        os.close(fd)


def _age(who: Who) -> Tuple[float, str]:
    return float(who.get("since") or 0), str(who.get("deploy"))


def _write(fd: int, who: Who) -> None:
    os.pwrite(fd, json.dumps(who).encode().ljust(ROOM), 0)


def _read(fd: int) -> Who:
    try:
        said = json.loads(os.pread(fd, ROOM, 0) or b"{}")
    except (OSError, ValueError):  # half written: the next look sees the rest
        return {}
    return said if isinstance(said, dict) else {}
