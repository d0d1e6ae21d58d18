"""NOTIFY_SOCKET: what an app says about itself with sd_notify(3)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

LONGEST_EXTENSION = 86400.0
"""Seconds that one EXTEND_TIMEOUT_USEC may ask for at most: a slip in the unit must not hold a drain for ever."""
_CREDENTIALS = struct.Struct("3i")


class NotifySocket:
    """One datagram socket per instance. `address` goes into its environment; `receive` tells who said what."""

    def __init__(self, path: Path) -> None:
        if not hasattr(socket, "SO_PASSCRED"):
            raise OSError(errno.ENOTSUP, "this system does not say who sends a message")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._path: Optional[Path] = None
        if len(os.fsencode(path)) <= 100:
            try:
                path.unlink()
            except FileNotFoundError:
                pass
            self._socket.bind(str(path))
            os.chmod(path, 0o600)
            self._path, self.address = path, str(path)
        else:  # too deep for a path: Linux' abstract names, where the sender's credentials do the guarding
            self.address = f"@deployer-{path.stem}"
            self._socket.bind("\0" + self.address[1:])

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> Optional[Tuple[int, Dict[str, str]]]:
        """(pid of the sender, what it said), or None when nothing waits."""
        try:
            data, ancillary, _, _ = self._socket.recvmsg(8192, socket.CMSG_SPACE(_CREDENTIALS.size))
        except (BlockingIOError, InterruptedError):
            return None
        pid = 0
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid = _CREDENTIALS.unpack(payload[: _CREDENTIALS.size])[0]
        return pid, parse(data)

    def close(self) -> None:
        self._socket.close()
        if self._path is not None:
            try:
                self._path.unlink()
            except OSError:
                pass


def say(address: str, text: str) -> None:
    """Tell whoever started us *text*, as sd_notify(3) does. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(text.encode())


def parse(data: bytes) -> Dict[str, str]:
    """The NAME=value lines of one message; anything else in it is dropped."""
    found = {}
    for line in data.decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition("=")
        if equals and name.isidentifier():
            found[name] = value[:500]
    return found


def extension(said: Mapping[str, str]) -> Optional[float]:
    """The seconds from now that EXTEND_TIMEOUT_USEC asks for; None where it is missing or no number."""
    value = said.get("EXTEND_TIMEOUT_USEC", "")
    if not (value.isascii() and value.isdigit()):
        return None
    return min(int(value) / 1e6, LONGEST_EXTENSION) if len(value) < 20 else LONGEST_EXTENSION
