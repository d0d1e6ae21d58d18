"""Who listens on a port, read from the kernel's tables; and how to take a listening socket out of a running process."""

from __future__ import annotations

import os
import socket
from typing import Dict, Iterable, List, Optional, Set

from deployer.host.process import Handle, Processes

_LISTEN = "0A"


def listening(port: int) -> Set[int]:
    """The inodes of the TCP sockets that listen on *port*, on any address."""
    return {inode for inode, its_port in _listeners().items() if its_port == port}


def ports_of(processes: Iterable[int]) -> Set[int]:
    """The TCP ports that any of *processes* listens on."""
    table = _listeners()
    return {table[inode] for pid in processes for inode in sockets_of(pid) if inode in table}


def holders(inodes: Set[int], pids: Iterable[int]) -> List[int]:
    """Those of *pids* that hold one of the sockets *inodes* open."""
    return [pid for pid in pids if inodes & set(sockets_of(pid))] if inodes else []


def owners(port: int, processes: Processes) -> List[int]:
    """Every process that holds a socket listening on *port*, as far as we may look."""
    inodes = listening(port)
    return sorted(holders(inodes, processes.table())) if inodes else []


def sockets_of(pid: int) -> Dict[int, int]:
    """Socket inode → descriptor number of *pid*; empty when we may not look."""
    found = {}
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if link.startswith("socket:["):
                found[int(link[8:-1])] = int(name)
    except OSError:
        pass
    return found


def take_socket(handle: Handle, port: int) -> Optional[socket.socket]:
    """A duplicate of the socket that a process listens with on *port* (pidfd_getfd, Linux 5.6), or None."""
    import ctypes

    pidfd_getfd = 438
    inodes = listening(port)
    for inode, number in sockets_of(handle.identity.pid).items():
        if inode in inodes:
            fd = ctypes.CDLL(None, use_errno=True).syscall(pidfd_getfd, handle.fileno(), number, 0)
            if fd >= 0:
                os.set_inheritable(fd, False)
                return socket.socket(fileno=fd)
    return None


def _listeners() -> Dict[int, int]:
    found = {}
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as table:
                next(table)
                for line in table:
                    parts = line.split()
                    if parts[3] == _LISTEN:
                        found[int(parts[9])] = int(parts[1].rsplit(":", 1)[1], 16)
        except (OSError, StopIteration):
            continue
    return found


def address(text: str) -> tuple[str, int]:
    """("127.0.0.1", 3001) from "127.0.0.1:3001"; brackets around a v6 address are dropped."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def bind(text: str, backlog: int = 4096) -> socket.socket:
    """A listening socket on *text* ("host:port"). Raises OSError."""
    host, port = address(text)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
