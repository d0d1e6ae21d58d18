"""The same thing on every host, side by side; what one of them refuses hides nothing of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from deployer.errors import DeployerError

AT_ONCE = 32
"""Threads: enough to keep the servers' handshakes the limit (shared/research/performance.md). Who only listens may be more."""

T = TypeVar("T")


def on_each(
    hosts: Sequence[str],
    act: Callable[[str], T],
    let_go: Callable[[], None] = lambda: None,
    at_once: int = AT_ONCE,
) -> list[T | DeployerError]:
    """
    What *act* gave for each of *hosts*, in their order, or the DeployerError that it raised. One host needs no thread.

    Ctrl-C arrives here, in the main thread: *let_go* must then make every *act* return soon.
    """

    def attempt(host: str) -> T | DeployerError:
        try:
            return act(host)
        except DeployerError as error:
            return error

    if len(hosts) < 2:
        return [attempt(host) for host in hosts]
    from concurrent.futures import ThreadPoolExecutor  # a fifth of a start, and one host needs none

    with ThreadPoolExecutor(min(at_once, len(hosts)), "host") as pool:
        futures = [pool.submit(attempt, host) for host in hosts]
        try:
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            for future in futures:
                future.cancel()
            let_go()
            raise
