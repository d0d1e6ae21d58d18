"""The very end: a process whose work is over must not be held for ever by a thread, and one that hangs must end all the same."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from typing import Callable

from deployer.lifecycle.hands import apart

_HOLD = 1.0
"""Seconds that other threads have to end once the interpreter wants to."""
_LAST_WORDS = 2.0
"""Seconds for the atexit functions and the streams of a process that would not end by itself."""


def when_main_ends(call: Callable[[], object]) -> None:
    """Have *call* called when the interpreter begins to end, before it waits for threads; now, where it does so already."""
    register = getattr(threading, "_register_atexit", None)  # CPython's own, since 3.9; atexit comes too late for this
    try:
        if register is not None:
            register(call)
    except RuntimeError:
        call()


def end_now(code: int) -> None:
    """End this process, whatever its threads do: atexit functions and streams get their moment, then `os._exit`."""
    said = threading.Event()
    apart(lambda: _last_words(said), "lifecycle-last-words")
    said.wait(_LAST_WORDS)
    os._exit(code)


def release(code: int) -> None:
    """
    Main has ended: end with *code* what other threads would hold. In a thread of its own, a daemon.

    A process that nobody holds ends as ever, with all that Python does then.
    """
    deadline = time.monotonic() + _HOLD
    holding = [thread for thread in threading.enumerate() if _holds(thread)]
    for thread in holding:
        thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in holding):
        end_now(code or _died())


def _died() -> int:
    """1 where an exception has ended the program after the stop; nobody can tell us of a code that it chose by itself."""
    return int(getattr(sys, "last_value", None) is not None)


def _holds(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()


def _last_words(said: threading.Event) -> None:
    run = getattr(atexit, "_run_exitfuncs", None)
    if run is not None:
        run()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    said.set()
