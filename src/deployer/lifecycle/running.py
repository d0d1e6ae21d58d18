"""One run of one process under a `Lifecycle`: what begins with it, how main ends, what is put back."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import weakref
from contextvars import Token
from typing import Any, Callable, List, Optional, Sequence

from deployer.lifecycle import ending
from deployer.lifecycle.crash import Hooks, is_crash
from deployer.lifecycle.mainline import Called, Mainline, leave
from deployer.lifecycle.parts import Parts
from deployer.lifecycle.signals import Signals
from deployer.lifecycle.stop import Stop
from deployer.lifecycle.tasks import ShuttingDown
from deployer.lifecycle.voice import name_of, say

_REACHED_WITHIN = 0.5
"""Seconds in which a main thread that is not inside a C call hears a signal."""


class Running:
    """Signals, hooks and the stop. `begun` from `begin` until main is through with the stop."""

    def __init__(self, parts: Parts, numbers: Sequence[int]) -> None:
        self.parts, self.stop = parts, Stop(parts)
        self.begun = self._used = False
        self._signals = Signals(numbers, self._heard)
        self._hooks = Hooks(self._at_top, self.crashed)
        self._token: Optional[Token[Optional[Mainline]]] = None

    def begin(self, *, pass_on: bool = False) -> None:
        """
        Take over signals and hooks; what runs in the main thread from here on is main, unless a loop has it.

        *pass_on*: main belongs to somebody else, who had handlers of his own: they are called when it is time.
        """
        if self._used:
            raise RuntimeError("this Lifecycle has been started before; make one for each run of a process")
        self.parts.settle()
        self.begun = self._used = True
        self.stop.begin()
        self._hooks.install()
        atexit.register(self._at_exit)
        if threading.current_thread() is threading.main_thread():
            self._enter_main(pass_on)
        if not self._signals.install():
            say("not in the main thread: signals stay the caller's; call stop() when one comes")

    def ended(self, error: Optional[BaseException]) -> None:
        """Main has ended, by *error* where there is one."""
        if error is None or isinstance(error, (Called, ShuttingDown)):
            self.stop.tell("main returned", ends=True)
        elif is_crash(error):
            self.stop.tell(name_of(error), error=error, ends=True)
        else:
            self.stop.tell(f"exit {error.code}" if isinstance(error, SystemExit) else type(error).__name__, ends=True)

    def crashed(self, error: BaseException, where: str) -> None:
        """Nobody caught *error*, outside of main."""
        if self.stop.tell(f"{name_of(error)} in {where}", error=error, ends=True):
            say(f"uncaught {type(error).__name__} in {where}: stopping")

    def finish(self) -> int:
        """Main is back: lend it to what is left to do, then all is as it was before. Returns the exit code."""
        self._signals.take_back()
        self.main_is_back()
        self.stop.hands.lend()
        self.put_back()
        return self.stop.code

    def wait(self) -> int:
        """For the end of the story, in another thread than main's. Where main never was ours, nobody else puts things back."""
        self.stop.over.wait()
        if self._token is None:
            self.put_back()
        return self.stop.code

    def main_is_back(self) -> None:
        self.stop.hands.promise()
        self.parts.main.returned()

    def put_back(self) -> None:
        self.begun = False
        if self._token is not None:
            leave(self._token)
        self.parts.returned.set()
        self._signals.remove()
        self._hooks.remove()
        atexit.unregister(self._at_exit)

    def verdict(self) -> int:
        """0; raises SystemExit for another exit code."""
        if self.stop.code:
            raise SystemExit(self.stop.code)
        return 0

    def forget(self) -> None:
        """In the child of a fork: nothing here is its own."""
        self.begun = False
        self.parts.agent.forget()
        self._signals.forget()
        self._hooks.remove()
        atexit.unregister(self._at_exit)

    def _enter_main(self, pass_on: bool) -> None:
        main = self.parts.main
        self._token = main.enter()
        main.call = lambda: self._call_main(pass_on)
        if pass_on:  # nobody tells us when that main is back: the interpreter does, when it ends
            ending.when_main_ends(main.returned)

    def _call_main(self, pass_on: bool) -> bool:
        main, reached = self.parts.main, threading.Event()

        def act(before: Any, number: int, frame: Any) -> None:
            reached.set()
            if main.back:
                return
            if pass_on and callable(before) and before is not signal.default_int_handler:
                self._signals.pass_on(before, number, frame)
            else:
                raise Called(1 if self.stop.error is not None or self.parts.tasks.busy else 0)

        return self._signals.interrupt_main(act) and reached.wait(_REACHED_WITHIN)

    def _heard(self, number: int, times: int) -> None:
        """In the thread of the signals. SIGTERM twice is SIGTERM; SIGINT twice ends the wait."""
        told = self.stop.tell(signal.Signals(number).name, ends=True)
        if number == signal.SIGINT and times >= 2 and not told:
            self.stop.hurry()

    def _at_top(self, error: BaseException) -> None:
        self.ended(error)
        self.finish()

    def _at_exit(self) -> None:
        if self.begun:
            self.stop.tell("exit", ends=True)
            self.finish()


def in_forks(life: Any, forgotten: Callable[[Any], None]) -> None:
    """Have `forgotten(life)` called in every child that this process forks, as long as *life* is there."""
    if hasattr(os, "register_at_fork"):
        mine = weakref.ref(life)

        def in_child() -> None:
            alive: List[Any] = [mine()]
            if alive[0] is not None:
                forgotten(alive[0])

        os.register_at_fork(after_in_child=in_child)
