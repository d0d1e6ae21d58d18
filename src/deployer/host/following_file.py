"""Waiting for a file to grow: inotify where there is one, a look every quarter second elsewhere."""

from __future__ import annotations

import os
import select
from pathlib import Path

LOOK_AGAIN = 0.25


class Appended:
    """`fileno` is readable when *path* may have grown since `taken`; -1 where nothing tells."""

    IN_MODIFY, IN_CLOEXEC, IN_NONBLOCK = 0x2, 0o2000000, 0o4000

    def __init__(self, path: Path) -> None:
        import ctypes

        self._fd = -1
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            self._fd = libc.inotify_init1(self.IN_CLOEXEC | self.IN_NONBLOCK)
            if self._fd >= 0 and libc.inotify_add_watch(self._fd, os.fsencode(path), self.IN_MODIFY) < 0:
                self.close()
        except (OSError, AttributeError):
            self.close()

    def fileno(self) -> int:
        return self._fd

    def wait(self, client: int) -> bool:
        """Whether *client* has closed; returns when the file may have grown."""
        watched = [client] if self._fd < 0 else [client, self._fd]
        readable = select.select(watched, [], [], LOOK_AGAIN if self._fd < 0 else 5.0)[0]
        self.taken()
        return client in readable

    def taken(self) -> None:
        """What was told so far is known."""
        try:
            while self._fd >= 0 and os.read(self._fd, 65536):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
