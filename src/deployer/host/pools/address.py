"""Addresses as pools spell them, host:port."""

from __future__ import annotations

import os
import socket
from typing import List, Tuple

from deployer.errors import PoolError
from deployer.host.pools.base import UNTOUCHED

_ESTABLISHED = "01"


def split(address: str) -> Tuple[str, int]:
    """Host (IPv6 without its brackets) and port of *address*. Raises PoolError when it is not of the form host:port."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise PoolError(
            f"{address} is no address of the form host:port",
            state=UNTOUCHED,
            hint='write address = "127.0.0.1:{port}" in the pool of this target',
        )
    return host.strip("[]"), int(port)


def resolve(host: str) -> List[str]:
    """The IP addresses of *host*; none when nobody knows it."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError):
        return []


def established(address: str) -> int:
    """Connections that clients have to *address* of this machine, also those that no accept() has taken yet."""
    _, port = split(address)
    count = 0
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as table:
                rows = [line.split() for line in table][1:]
        except OSError:
            continue
        count += sum(1 for row in rows if row[3] == _ESTABLISHED and int(row[1].rpartition(":")[2], 16) == port)
    return count


def is_here(address: str) -> bool:
    """Whether *address* belongs to this machine, so that the kernel's table has its connections."""
    host, _ = split(address)
    if not os.path.exists("/proc/net/tcp"):
        return False
    for ip in resolve(host):
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((ip, 0))
                return True
        except OSError:
            continue
    return False
