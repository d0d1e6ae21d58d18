"""Moments that Ctrl-C and SIGTERM must not cut in two: what was asked meanwhile comes right after."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block has ended; in the main thread, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: asked.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
        if callable(signal.getsignal(number))
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for late in asked:
        signal.raise_signal(late)


class Turns:
    """The first Ctrl-C (or SIGTERM) is somebody's turn to do something about it; a second waits for that, a third does not."""

    def __init__(self, before: dict[int, Any]) -> None:
        self._before = before
        self._first = False
        self._more = 0
        self._open = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._first:
            self._more += 1
            if self._open or self._more > 1:
                raise KeyboardInterrupt
            return
        try:
            self._before[number](number, frame)
        except KeyboardInterrupt:
            self._first = True
            raise

    def next(self) -> None:
        """What had to be done is done. Raises KeyboardInterrupt where the second has come meanwhile."""
        self._open = True
        if self._more:
            raise KeyboardInterrupt


@contextmanager
def in_turns() -> Iterator[Turns]:
    """Signals that would interrupt us come in turns; in the main thread, where signals arrive."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers if callable(signal.getsignal(number))}
    turns = Turns({int(number): handler for number, handler in before.items()})
    try:
        for number in before:
            signal.signal(number, turns)
        yield turns
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
