"""Clean-up callbacks: in the order of their registration, each under its share of the limit."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, List, NamedTuple

from deployer import durations
from deployer.lifecycle.hands import Hands
from deployer.lifecycle.voice import say, trace


class _Callback(NamedTuple):
    name: str
    call: Callable[[], Any]


class Cleanup:
    """What is to be done before the process ends. `hung`: the names of those that were left behind."""

    def __init__(self) -> None:
        self._callbacks: List[_Callback] = []
        self._begun = False
        self._lock = threading.Lock()
        self.hung: List[str] = []

    def add(self, call: Callable[[], Any], name: str) -> None:
        """Raises RuntimeError once the clean-up has begun: *call* would never come to its turn."""
        if not callable(call):
            raise TypeError(f"cleanup() takes a function, not {call!r}")
        with self._lock:
            if self._begun:
                raise RuntimeError(
                    f'clean-up "{name}" was not registered: the clean-up is under way; register it before the stop'
                )
            self._callbacks.append(_Callback(name, call))

    def run(self, hands: Hands, deadline: float) -> None:
        """Run them all by *deadline* (monotonic). One that raises or hangs is said, and never keeps the next from its turn."""
        with self._lock:
            self._begun = True
        for index, callback in enumerate(self._callbacks):
            left = max(0.0, deadline - time.monotonic())
            self._one(callback, hands, left / (len(self._callbacks) - index))

    def _one(self, callback: _Callback, hands: Hands, share: float) -> None:
        errand = hands.do(callback.call, share)
        if errand is None:
            self.hung.append(callback.name)
            say(f'clean-up "{callback.name}" did not end within {durations.show(share)}, its share: left behind')
        elif errand.error is not None:
            say(f'clean-up "{callback.name}" failed; the others go on\n{trace(errand.error)}')


def called(call: Callable[[], Any]) -> str:
    """A name for *call*, where nobody gave one."""
    return str(getattr(call, "__qualname__", None) or type(call).__name__)
