"""When to try again, as named policies. The only importer of tenacity."""

from __future__ import annotations

import threading

from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
)
from tenacity.wait import wait_random_exponential

from deployer.errors import LinkError

LONGEST_PAUSE = 5.0


def coming_back(within: float, given_up: threading.Event) -> Retrying:
    """
    Tries that go on while the link breaks: soon at first, then every 5 s at the latest, jittered, so that the clients of a host
    that was away do not all come at once.

    The LinkError of the last try is raised after *within* seconds, or once *given_up* is set.
    """
    return Retrying(
        retry=retry_if_exception_type(LinkError),
        wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE),
        stop=stop_any(stop_after_delay(within), stop_when_event_set(given_up)),
        sleep=sleep_using_event(given_up),
        reraise=True,
    )
