"""Ctrl-C and SIGTERM during a job: the first one ends it, none of them cuts its clean-up short."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Dict, List, Optional, Type

_HEARD = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """
    As a context: what would raise in the main thread (KeyboardInterrupt, a handler's SystemExit) does so until `hold()`, or
    until it has raised once. What comes later waits until the context ends; after a first one it is dropped.

    A SIGTERM that nobody handles raises SystemExit(143) meanwhile: else it would end the process, and no service would be cleaned
    up. Outside of the main thread, where no signals arrive, this does nothing.
    """

    def __init__(self) -> None:
        self._before: Dict[int, Any] = {}
        self._holding = False
        self._raised = False
        self._held: List[int] = []

    def hold(self) -> None:
        """From here on the clean-up goes first."""
        self._holding = True

    def take(self) -> None:
        """Be the one who hears; again after somebody else (`ray.init`) has put a handler of its own there."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _HEARD:
            now = signal.getsignal(number)
            if now is not None and now is not signal.SIG_IGN and now != self._hear:
                self._before.setdefault(number, now)
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: Optional[FrameType]) -> None:
        if self._holding:
            self._held.append(number)
            return
        self._holding = True  # before it raises: a second one must find the clean-up protected
        self._raised = True
        before = self._before[number]
        if callable(before):
            before(number, frame)
        else:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self._holding = self._raised = False  # a handler that only takes a note

    def __enter__(self) -> "Signals":
        self.take()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._held and not self._raised:
            signal.raise_signal(self._held[0])
