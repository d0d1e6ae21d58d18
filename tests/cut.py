"""A network that is cut: what is sent to an address, or comes from it, goes nowhere. Nobody is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import parts


@contextmanager
def dark(address: str) -> Iterator[None]:
    """While it is open, no packet reaches or leaves *address* (of 127/8). Needs root and nft."""
    parts.need("nft")
    parts.need_root()
    table = f"dpl_cut_{os.getpid()}_{address.replace('.', '_')}"
    rules = (
        f"add table ip {table}\n"
        f"add chain ip {table} out {{ type filter hook output priority 0; }}\n"
        f"add rule ip {table} out ip daddr {address} drop\n"
        f"add rule ip {table} out ip saddr {address} drop\n"
    )
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "ip", table], check=True, stdin=subprocess.DEVNULL)
