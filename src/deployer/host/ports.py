"""Who listens on a port, read from the kernel's tables."""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Dict, Iterable, List, Set, Tuple

from deployer.host import ports_lsof
from deployer.host.process import Processes

_LISTEN = "0A"
_HAS_PROC = sys.platform != "darwin"


def listening(port: int) -> Set[int]:
    """The inodes of the TCP sockets that listen on *port*, on any address."""
    return {inode for inode, (_, its_port) in listeners().items() if its_port == port}


def ports_of(processes: Iterable[int]) -> Set[int]:
    """The TCP ports that any of *processes* listens on."""
    table = listeners()
    return {table[inode][1] for pid in processes for inode in sockets_of(pid) if inode in table}


def holders(inodes: Set[int], pids: Iterable[int]) -> List[int]:
    """Those of *pids* that hold one of the sockets *inodes* open."""
    if not inodes:
        return []
    if not _HAS_PROC:
        wanted = set(pids)
        return sorted({one.pid for one in ports_lsof.listeners() if one.device in inodes and one.pid in wanted})
    return [pid for pid in pids if inodes & set(sockets_of(pid))]


def owners(port: int, processes: Processes) -> List[int]:
    """Every process that holds a socket listening on *port*, as far as we may look."""
    inodes = listening(port)
    return sorted(holders(inodes, processes.table())) if inodes else []


def sockets_of(pid: int) -> Dict[int, int]:
    """Socket inode → descriptor number of *pid*; empty when we may not look."""
    found = {}
    if not _HAS_PROC:  # only those on which it listens
        return {one.device: one.fd for one in ports_lsof.listeners() if one.pid == pid}
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


def unix_listeners(path: str = "") -> Set[int]:
    """The inodes of the Unix stream sockets on which somebody listens, of those that were bound to *path* where one is given."""
    accepting = 0x10000  # __SO_ACCEPTCON
    found = set()
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
            next(table)
            for line in table:
                parts = line.split()
                if int(parts[3], 16) & accepting and (not path or parts[7:] == [path]):
                    found.add(int(parts[6]))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    return found


def listeners() -> Dict[int, Tuple[str, int]]:
    """Inode → address and port of every TCP socket on which somebody listens."""
    if not _HAS_PROC:
        return {one.device: (one.host, one.port) for one in ports_lsof.listeners()}
    found = {}
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as table:
                next(table)
                for line in table:
                    parts = line.split()
                    if parts[3] == _LISTEN:
                        found[int(parts[9])] = decoded(parts[1])
        except (OSError, StopIteration):
            continue
    return found


def decoded(text: str) -> Tuple[str, int]:
    """The kernel's "0100007F:0BB9" as an address and a port: words of 32 bits in the machine's own order."""
    raw, _, port = text.partition(":")
    words = [int(raw[at : at + 8], 16) for at in range(0, len(raw), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed), int(port, 16)
