"""
Where a callback runs: each in the thread it would expect, and in another one once that thread does not come back.

The main thread and a loop lend themselves while the rest of the stop's story goes on elsewhere. A database handle of sqlite3
may only be closed by the thread that opened it, a transport only by its loop.
"""

from __future__ import annotations

import queue
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Callable, Optional

if TYPE_CHECKING:
    import asyncio

_ANSWERS_WITHIN = 0.2
"""Seconds in which a loop that is not blocked has called us back."""


_ON_ERRAND: ContextVar[bool] = ContextVar("deployer_errand", default=False)
"""Whether the caller is a part of the stop: such a one must not wait for the stop."""


class Errand:
    """One call under way: `done` once it has ended, with `result` or `error`."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.done = threading.Event()
        self.result: Any = None
        self.error: Optional[BaseException] = None
        self._then: Callable[[], None] = lambda: None

    def then(self, call: Callable[[], None]) -> None:
        """Have *call* called, in the thread of the errand, when it has ended."""
        self._then = call

    def run(self, loop: Optional[asyncio.AbstractEventLoop] = None) -> None:
        """In a thread: to its end. What gives an awaitable has it awaited on *loop*, or on one of its own."""
        token = _ON_ERRAND.set(True)
        try:
            result = self._call()
            self.end(_complete(result, loop) if hasattr(result, "__await__") else result)
        except BaseException as error:  # whatever it raises is its own affair: the next one must get its turn
            self.end(error=error)
        finally:
            _ON_ERRAND.reset(token)

    def end(self, result: Any = None, error: Optional[BaseException] = None) -> None:
        self.result, self.error = result, error
        self.done.set()
        self._then()

    async def run_in_loop(self) -> None:
        try:
            result = self._call()
            self.end(await result if hasattr(result, "__await__") else result)
        except BaseException as error:
            self.end(error=error)
            if type(error).__name__ == "CancelledError":
                raise


class Hands:
    """Does errands one by one, each for as long as it may take. One that hangs is left behind, with its thread."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Optional[Callable[[], None]]] = queue.SimpleQueue()
        self._lent = self._released = False
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def promise(self) -> None:
        """Errands may be handed in from now on: a thread is on its way to `lend` itself."""
        self._lent = not self._released

    def lend(self) -> None:
        """Do errands in this thread until `release`."""
        for job in iter(self._jobs.get, None):
            job()

    def lend_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do errands on *loop* while it runs and answers."""
        self._loop = loop

    def release(self) -> None:
        """Let the thread go that lends itself, now or later."""
        self._released, self._lent = True, False
        self._loop = None
        self._jobs.put(None)

    def do(self, call: Callable[[], Any], seconds: float) -> Optional[Errand]:
        """*call*, a function or one that gives an awaitable; None when it has not ended within *seconds*."""
        errand = Errand(call)
        if self._loop is not None and answers(self._loop, _ANSWERS_WITHIN):
            return self._in_loop(self._loop, errand, seconds)
        if self._lent:
            self._jobs.put(errand.run)
        else:
            apart(errand.run, "lifecycle-errand")
        if errand.done.wait(max(0.0, seconds)):
            return errand
        self._lent = False  # that thread hangs
        return None

    def _in_loop(self, loop: asyncio.AbstractEventLoop, errand: Errand, seconds: float) -> Optional[Errand]:
        import asyncio

        future = asyncio.run_coroutine_threadsafe(errand.run_in_loop(), loop)
        if errand.done.wait(max(0.0, seconds)):
            return errand
        future.cancel()
        return None


def on_errand() -> bool:
    """Whether the caller is a clean-up, a service, or another call that a stop is waiting for."""
    return _ON_ERRAND.get()


def apart(target: Callable[[], None], name: str) -> threading.Thread:
    """*target* in a thread of its own that holds nobody; in ours, where the interpreter ends and starts no more."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        target()
    return thread


def answers(loop: asyncio.AbstractEventLoop, seconds: float) -> bool:
    """Whether *loop* gets to do something within *seconds*: a blocked one does not. Not from its own thread."""
    answered = threading.Event()
    try:
        loop.call_soon_threadsafe(answered.set)
    except RuntimeError:
        return False
    return answered.wait(seconds)


def _complete(awaitable: Any, loop: Optional[asyncio.AbstractEventLoop]) -> Any:
    import asyncio

    async def whole() -> Any:
        return await awaitable

    if loop is None or loop.is_closed():
        return asyncio.run(whole())
    return asyncio.run_coroutine_threadsafe(whole(), loop).result()
