"""The same thing on every host, side by side; what one of them refuses hides nothing of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from deployer.errors import DeployerError

AT_ONCE = 32
"""Threads: enough to keep the servers' handshakes the limit (shared/research/performance.md)."""

T = TypeVar("T")


def on_each(hosts: Sequence[str], act: Callable[[str], T]) -> list[T | DeployerError]:
    """What *act* gave for each of *hosts*, in their order, or the DeployerError that it raised. One host needs no thread."""

    def attempt(host: str) -> T | DeployerError:
        try:
            return act(host)
        except DeployerError as error:
            return error

    if len(hosts) < 2:
        return [attempt(host) for host in hosts]
    with ThreadPoolExecutor(min(AT_ONCE, len(hosts)), "host") as pool:
        return list(pool.map(attempt, hosts))
