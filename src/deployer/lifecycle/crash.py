"""Exceptions that nobody caught: in the main thread, in threads, in the tasks of a loop. The hooks of before still run, first."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Callable

from deployer.lifecycle.tasks import ShuttingDown

if TYPE_CHECKING:
    import asyncio

_NO_CRASH = (SystemExit, KeyboardInterrupt, GeneratorExit, ShuttingDown)
"""Ends that somebody wanted. ShuttingDown is the answer to work that came too late, and no fault."""


def is_crash(error: BaseException) -> bool:
    return not isinstance(error, _NO_CRASH) and type(error).__name__ != "CancelledError"


class Hooks:
    """
    `at_top(error)` is called in the main thread, about to end by *error*; `elsewhere(error, where)` where it happened.

    `sys.unraisablehook` is left alone: Python reports those, and goes on.
    """

    def __init__(
        self, at_top: Callable[[BaseException], None], elsewhere: Callable[[BaseException, str], None]
    ) -> None:
        self._at_top, self._elsewhere = at_top, elsewhere
        self._installed = False

    def install(self) -> None:
        self._before_main, self._before_threads = sys.excepthook, threading.excepthook
        sys.excepthook = self._main
        threading.excepthook = self._thread
        self._installed = True

    def remove(self) -> None:
        """Put back what was there. Where somebody has hooked in after us, ours stay in the chain and only pass on."""
        if self._installed:
            self._installed = False
            if sys.excepthook == self._main:
                sys.excepthook = self._before_main
            if threading.excepthook == self._thread:
                threading.excepthook = self._before_threads

    def _main(self, kind: Any, error: BaseException, traceback: Any) -> None:
        self._before_main(kind, error, traceback)
        if self._installed:
            self._at_top(error)

    def _thread(self, args: Any) -> None:
        error = args.exc_value if args.exc_value is not None else args.exc_type()
        if not self._installed or not isinstance(error, ShuttingDown):
            self._before_threads(args)
        if self._installed and is_crash(error):
            self._elsewhere(error, f"thread {args.thread.name}" if args.thread else "a thread")


class LoopHook:
    """The same for what a loop's tasks raise and nobody retrieves. A peer that went away (ConnectionError) is no crash."""

    def __init__(self, loop: asyncio.AbstractEventLoop, elsewhere: Callable[[BaseException, str], None]) -> None:
        self._loop, self._elsewhere = loop, elsewhere
        self._before = loop.get_exception_handler()
        loop.set_exception_handler(self._handle)

    def remove(self) -> None:
        if self._loop.get_exception_handler() == self._handle:
            self._loop.set_exception_handler(self._before)

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        unretrieved = error is not None and ("task" in context or "future" in context)
        if unretrieved and isinstance(error, ShuttingDown):
            return
        if self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)
        if unretrieved and error is not None and is_crash(error) and not isinstance(error, ConnectionError):
            self._elsewhere(error, _where(context))


def _where(context: dict[str, Any]) -> str:
    name = getattr(context.get("task") or context.get("future"), "get_name", None)
    return f"task {name()}" if name else "a future"
