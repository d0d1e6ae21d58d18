"""Ctrl-C, and SIGTERM from CI: the first one asks for a clean end, the second one ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SHOW_CURSOR = b"\x1b[?25h"


@contextmanager
def interruptible() -> Iterator[None]:
    """
    Within it, the first SIGINT or SIGTERM raises KeyboardInterrupt in the main thread, the second one exits with 130.

    A signal that was ignored when we started (nohup, a shell's background job) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    handler = _Once()
    before = {number: signal.signal(number, handler) for number in ours}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class _Once:
    def __init__(self) -> None:
        self._asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            _leave_now()
        self._asked = True
        raise KeyboardInterrupt


def _leave_now() -> None:
    # A live view may have hidden the cursor; nobody else will bring it back.
    try:
        if os.isatty(1):
            os.write(1, _SHOW_CURSOR)
    except OSError:
        pass
    os._exit(130)
