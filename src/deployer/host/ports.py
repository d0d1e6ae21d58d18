"""Who listens on a port, read from the kernel's tables."""

from __future__ import annotations

import os
from typing import Dict, Iterable, List, Set

from deployer.host.process import Processes

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


def unix_listeners() -> Set[int]:
    """The inodes of the Unix stream sockets on which somebody listens."""
    accepting = 0x10000  # __SO_ACCEPTCON
    found = set()
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
            next(table)
            for line in table:
                parts = line.split()
                if int(parts[3], 16) & accepting:
                    found.add(int(parts[6]))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    return found


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
