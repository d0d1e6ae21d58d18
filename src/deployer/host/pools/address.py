"""Addresses as pools spell them, host:port."""

from __future__ import annotations

import socket
from typing import List, Tuple

from deployer.errors import PoolError
from deployer.host.pools.base import UNTOUCHED


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
