"""The protocol of a pool: who sends a host's service its traffic, and how that is changed without losing any."""

from __future__ import annotations

from typing import List, Optional, Protocol, Sequence

from deployer.errors import PoolError, PreflightError

POLL = 0.01
"""Seconds between two looks at a proxy that has been told to change."""

UNTOUCHED = "nothing was changed"


class NotOnline(PoolError):
    """The pool can be asked, and has not seen what should have joined it: it is the new release that does not do its part."""


class Pool(Protocol):
    """
    Who sends this service its traffic. An address is "host:port", as the pool reaches the app. A pool that is not `by_address`
    knows the processes themselves: an address is then the id of an instance.
    """

    by_address: bool

    def check(self, addresses: Sequence[str]) -> None:
        """Raises PreflightError when the pool cannot be reached, refuses us, or cannot send to *addresses*. Changes nothing."""

    def send_to(self, addresses: Sequence[str], leaving: Sequence[str] = ()) -> None:
        """
        From its return on new requests go to *addresses* only, of those that are ours: *addresses* and *leaving*. What
        other hosts have in the same pool is left alone. Without *addresses* this host takes no traffic.

        Idempotent: a resumed deploy calls it again. Raises PoolError when the pool refuses; then the old state stands.
        """

    def in_flight(self, address: str) -> Optional[int]:
        """Requests that the pool still has at *address*; None where that cannot be known."""

    def named(self, addresses: Sequence[str]) -> List[str]:
        """What a person calls *addresses*."""


class ByAddress:
    """What pools that send to addresses have in common."""

    by_address = True

    def named(self, addresses: Sequence[str]) -> List[str]:
        return list(addresses)


def preflight(error: PoolError) -> PreflightError:
    """What *error* means while nothing has been changed."""
    return PreflightError(error.title, cause=error.cause, state=UNTOUCHED, hint=error.hint)
