"""The same thing on every host, side by side; what one of them refuses hides nothing of the others."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from deployer.errors import DeployerError

if TYPE_CHECKING:
    from concurrent.futures import Future

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
        except Exception as error:
            if len(hosts) < 2:
                raise  # a bug, told as one
            return unexpected(host, error)

    if len(hosts) < 2:
        return [attempt(host) for host in hosts]
    from concurrent.futures import ThreadPoolExecutor  # a fifth of a start, and one host needs none

    with ThreadPoolExecutor(min(at_once, len(hosts)), "host") as pool:
        futures: list[Future[T | DeployerError]] = []
        try:
            futures += [pool.submit(attempt, host) for host in hosts]
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            let_go()
            raise


def unexpected(host: str, error: Exception) -> DeployerError:
    """What a host, or we ourselves, did wrong in a way that nobody foresaw: it ends that host's part, and no other's."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return DeployerError(
        f"{host}: something happened that nobody foresaw",
        cause=f"{type(error).__name__}: {error} ({where.name}, line {where.lineno} of {where.filename})",
        state="see `deployer status`",
        hint="its engine may be damaged, or this is a bug in deployer: please report it",
    )
