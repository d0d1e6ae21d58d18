"""
The program's own main: whether it noticed that we leave, whether it is back, and how it is called back.

Work is what runs in tasks; a main that only waits for work (a queue, a socket) does not end by itself. One that notices
(`told`, `wait`, `sleep`, `shutting_down`) is let finish. One that does not is called back once nothing is in flight:
SystemExit in the main thread, a cancellation in a loop.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar, Token
from typing import Callable, Optional

_MAINLINE: ContextVar[Optional["Mainline"]] = ContextVar("deployer_mainline", default=None)
"""The main whose context this is: its own code, and what it starts in its loop."""


class Called(SystemExit):
    """Raised in the main thread to call main back; `run` and `with life` end it."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(code)


class Mainline:
    """`back` until `leave` and again after `returned`; *news* is notified of each change."""

    def __init__(self, news: threading.Condition) -> None:
        self._news = news
        self.back, self.noticed = True, False
        self.call: Callable[[], bool] = lambda: False
        """Call main back; False where it cannot be reached."""

    def enter(self) -> Token[Optional[Mainline]]:
        self.back = False
        return _MAINLINE.set(self)

    def returned(self) -> None:
        with self._news:
            self.back = True
            self._news.notify_all()

    def notice(self) -> None:
        """The caller has just learnt that we leave; of interest where it is main."""
        if not self.noticed and _MAINLINE.get() is self:
            with self._news:
                self.noticed = True
                self._news.notify_all()


def leave(token: Token[Optional[Mainline]]) -> None:
    try:
        _MAINLINE.reset(token)
    except ValueError:  # begun in another context
        pass
