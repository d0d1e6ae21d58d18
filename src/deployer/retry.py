"""Named policies of trying again. The only importer of tenacity; import it where the first attempt has failed: it costs 35 ms."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
    wait_random_exponential,
)

from deployer.errors import LinkError

T = TypeVar("T")

HANDSHAKE_FOR = 20.0
"""Seconds. sshd drops by chance what is above MaxStartups; whoever is dropped must not come back in step."""
LONGEST_PAUSE = 5.0
"""Seconds between two tries to come back, at most."""


def handshake(attempt: Callable[[], T], dropped: type[Exception]) -> T:
    """What *attempt* gives, tried again after *dropped*, with growing random pauses. Raises its last error."""
    policy = Retrying(
        retry=retry_if_exception_type(dropped),
        wait=wait_random_exponential(multiplier=0.1, max=2.0),
        stop=stop_after_delay(HANDSHAKE_FOR),
        reraise=True,
    )
    return policy(attempt)


def coming_back(within: float, given_up: threading.Event) -> Retrying:
    """
    Tries that go on while the link breaks: soon at first, then less often, jittered, so that the clients of a host that was away
    do not all come at once.

    The LinkError of the last try is raised after *within* seconds, or once *given_up* is set.
    """
    return Retrying(
        retry=retry_if_exception_type(LinkError),
        wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE),
        stop=stop_any(stop_after_delay(within), stop_when_event_set(given_up)),
        sleep=sleep_using_event(given_up),
        reraise=True,
    )
