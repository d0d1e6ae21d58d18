"""
SIGTERM and SIGINT, heard at once whatever blocks the main thread.

Python runs handlers in the main thread, between two steps of bytecode: a main thread inside a C call hears nothing. The byte
that the interpreter's own C handler writes (`signal.set_wakeup_fd`) is read here by a thread. Where somebody takes that descriptor
away, as uvloop does while it runs, the handler in the main thread writes one too, marked, so that no signal counts twice.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections import Counter
from typing import Any, Callable, Dict, Optional, Sequence

_FROM_PYTHON = 0x80


class Signals:
    """*heard* is called, in a thread of its own, with a signal's number and how often it has come by now."""

    def __init__(self, numbers: Sequence[int], heard: Callable[[int, int], None]) -> None:
        self._numbers, self._heard = [int(number) for number in numbers], heard
        self._before: Dict[int, Any] = {}
        self._in_main: Optional[Callable[[int, Any], None]] = None
        self._read = self._write = self._older = -1
        self._holds = False

    def install(self) -> bool:
        """Take the signals over. False, with nothing done, outside of the main thread: there they are the caller's."""
        if threading.current_thread() is not threading.main_thread():
            return False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        threading.Thread(target=self._watch, args=(self._read,), name="lifecycle-signals", daemon=True).start()
        self._older = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            self._before[number] = signal.signal(number, self._handle)
        return True

    def remove(self) -> None:
        """Put back who was there before; in the main thread only. A handler that somebody set meanwhile stays."""
        if not self._before or threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before = {}
        try:
            now = signal.set_wakeup_fd(self._older)
        except (OSError, ValueError):  # of a loop that is closed
            now = signal.set_wakeup_fd(-1)
        if now != self._write:
            signal.set_wakeup_fd(now)
        write, self._write = self._write, -1
        os.close(write)  # the thread reads the end, and closes the other side

    def forget(self) -> None:
        """In the child of a fork: hear nothing that is said to it or to its parent through what they share."""
        self._let_through()
        read, self._older = self._read, -1
        self.remove()
        if read >= 0:
            os.close(read)

    def interrupt_main(self, act: Callable[[Any, int, Any], None]) -> bool:
        """
        Have the main thread call `act(the handler of before, number, frame)`, even out of a blocking call.

        False where no signal of ours would reach it any more.
        """
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                self._in_main = functools.partial(act, before)
                signal.pthread_kill(threading.main_thread().ident or 0, number)
                return True
        return False

    def pass_on(self, before: Callable[[int, Any], object], number: int, frame: Any) -> None:
        """
        In the main thread: the handler of before hears *number*, and so does who was woken before us.

        A loop's handler does nothing by itself: the loop learns the number from its wakeup descriptor.
        """
        self._hold()
        before(number, frame)
        try:
            os.write(self._older, bytes([number]))
        except OSError:  # nobody was there, or has gone, or is awake anyway
            pass

    def _hold(self) -> None:
        """
        In the main thread: what it sends to itself from now on waits for `take_back`.

        A framework that has heard a signal puts its own handlers away in the end, and raises it again to die of it, as uvicorn
        does: before anything was cleaned up, or the registry told.
        """
        self._holds = True
        signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)

    def take_back(self) -> None:
        """In the main thread: where signals were held, ours are the handlers again, and what came is forgotten."""
        if not self._holds or threading.current_thread() is not threading.main_thread():
            return
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)  # which is what makes the kernel forget it
            signal.signal(number, self._handle)
        self._let_through()

    def _let_through(self) -> None:
        if self._holds:
            self._holds = False
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def _handle(self, number: int, frame: Any) -> None:
        self._wake(number)
        act, self._in_main = self._in_main, None
        if act is not None:
            act(number, frame)

    def _wake(self, number: int) -> None:
        try:
            os.write(self._write, bytes([number | _FROM_PYTHON]))
        except OSError:  # full of signals, or taken down this moment
            pass

    def _watch(self, read: int) -> None:
        times: Counter[int] = Counter()
        with open(read, "rb", buffering=0) as bytes_in:
            for byte in iter(lambda: bytes_in.read(1), b""):
                times[byte[0]] += 1
                self._count(byte[0] & ~_FROM_PYTHON, times)

    def _count(self, number: int, times: Counter[int]) -> None:
        """The interpreter's byte and ours tell of the same signal: it has come as often as the one who heard more says."""
        if number in self._numbers:
            count = max(times[number], times[number | _FROM_PYTHON])
            if count > times[-number]:
                times[-number] = count
                self._heard(number, count)
