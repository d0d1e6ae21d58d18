"""To be told that we leave: in a thread, in a loop, in the middle of a pause."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable, Dict, Optional

if TYPE_CHECKING:
    import asyncio


class Told:
    """The moment at which we begin to leave. It comes once, and wakes everybody who waits for it, in threads and in loops."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._wakers: Dict[object, Callable[[], None]] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def tell(self) -> None:
        self._event.set()
        with self._lock:
            wakers = list(self._wakers.values())
        for wake in wakers:
            wake()

    def wait(self, seconds: Optional[float] = None) -> bool:
        """True once told; False when *seconds* pass first."""
        return self._event.wait(seconds)

    async def wait_in_loop(self, seconds: Optional[float] = None) -> bool:
        """The same without blocking a loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        woken: asyncio.Future[bool] = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _resolve, woken, False)
        ticket = object()
        with self._lock:
            self._wakers[ticket] = lambda: _from_outside(loop, woken)
        try:
            return bool(self) or await woken
        finally:
            self._forget(ticket)
            if timer is not None:
                timer.cancel()

    def _forget(self, ticket: object) -> None:
        with self._lock:
            self._wakers.pop(ticket, None)


def _from_outside(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[bool]) -> None:
    try:
        loop.call_soon_threadsafe(_resolve, woken, True)
    except RuntimeError:  # the loop has closed meanwhile: nobody waits there any more
        pass


def _resolve(woken: asyncio.Future[bool], told: bool) -> None:
    if not woken.done():
        woken.set_result(told)
