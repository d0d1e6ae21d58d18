"""Whether a loop still answers: asked when somebody wants to know, so that an idle process stays asleep."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    import asyncio

_ANSWERS_WITHIN = 0.05


class Pulse:
    """Of one loop. `stuck()` is asked from other threads; the loop's own thread answers by asking at all."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread: Optional[int] = threading.get_ident()
        self._lock = threading.Lock()
        self._asked: Optional[float] = None
        self._answered = threading.Event()

    def stuck(self) -> Optional[float]:
        """Seconds since which the loop owes an answer; None when it gives one."""
        if threading.get_ident() == self._thread:
            return None
        with self._lock:
            if self._asked is None or self._answered.is_set():
                self._ask()
            asked = self._asked
        if asked is None or self._answered.wait(_ANSWERS_WITHIN):
            return None
        return time.monotonic() - asked

    def beat(self) -> None:
        """Ask, unless an answer is owed already: then `stuck` knows since when."""
        with self._lock:
            if self._asked is None or self._answered.is_set():
                self._ask()

    def _ask(self) -> None:
        self._asked = time.monotonic()
        self._answered.clear()
        try:
            self._loop.call_soon_threadsafe(self._answered.set)
        except RuntimeError:  # closed: not stuck, over
            self._asked = None
