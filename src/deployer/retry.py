"""Named policies of trying again. The only importer of tenacity; import it where the first attempt has failed: it costs 35 ms."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

T = TypeVar("T")

HANDSHAKE_FOR = 20.0
"""Seconds. sshd drops by chance what is above MaxStartups; whoever is dropped must not come back in step."""


def handshake(attempt: Callable[[], T], dropped: type[Exception]) -> T:
    """What *attempt* gives, tried again after *dropped*, with growing random pauses. Raises its last error."""
    policy = Retrying(
        retry=retry_if_exception_type(dropped),
        wait=wait_random_exponential(multiplier=0.1, max=2.0),
        stop=stop_after_delay(HANDSHAKE_FOR),
        reraise=True,
    )
    return policy(attempt)
