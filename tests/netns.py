"""A network of a host's own: every host of a fleet may then have its service on the same port, as real ones have."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from parts import find

CLONE_NEWNET = 0x40000000


class Network:
    """A network namespace with a loopback. Only root can make one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = f"/run/netns/{name}"
        subprocess.run([find("ip") or "ip", "netns", "add", name], check=True)
        subprocess.run([find("ip") or "ip", "-n", name, "link", "set", "lo", "up"], check=True)

    def prefix(self) -> list[str]:
        """What stands before a command that shall run inside."""
        return ["nsenter", f"--net={self.file}", "--"]

    @contextmanager
    def inside(self) -> Iterator[None]:
        """A socket that this thread makes meanwhile belongs to the namespace, and stays there."""
        with inside(self.file):
            yield

    def connect(self, port: int, timeout: float) -> socket.socket:
        """A connection to 127.0.0.1:*port* in there."""
        with self.inside():
            return socket.create_connection(("127.0.0.1", port), timeout)

    def close(self) -> None:
        subprocess.run([find("ip") or "ip", "netns", "del", self.name], check=False)


@contextmanager
def inside(file: str) -> Iterator[None]:
    """Sockets and processes that this thread makes meanwhile belong to the network namespace *file*, and stay there."""
    with open("/proc/thread-self/ns/net") as own, open(file) as other:
        _enter(other.fileno())
        try:
            yield
        finally:
            _enter(own.fileno())


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
