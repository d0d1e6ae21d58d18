"""Who is told that we leave, and may be deaf, slow or broken: the node agent, and parts such as the lame duck."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from deployer.lifecycle.hands import Errand, apart
from deployer.lifecycle.voice import say, trace

if TYPE_CHECKING:
    import asyncio

_BOUND = 1.0
"""Seconds after which an agent that promised 100 ms is left behind."""


class Agent:
    """The node agent, called so that nothing it does can stop the stop. Silent until `start`, and after `stop`."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._running = False
        self._left: Optional[str] = None
        self._stopped: Optional[Tuple[str, int]] = None

    def start(self, facts: Callable[[], Dict[str, Any]]) -> None:
        """
        The one call whose errors are the caller's: a node that cannot be started is a mistake of the program.

        What was said to it meanwhile, by a signal in the middle of the start, it hears right after.
        """
        if self._node is None:
            return
        self._node.start(facts)
        self._running = True
        if self._left is not None:
            self.leaving(self._left)
        if self._stopped is not None:
            self.stop(*self._stopped)

    def changed(self) -> None:
        if self._running:
            self._node.changed()

    def leaving(self, why: str) -> None:
        self._left = why
        if self._running:
            _bounded("leaving", lambda: self._node.leaving(why))

    def stop(self, why: str, code: int) -> None:
        self._stopped = why, code
        if self._running:
            self._running = False
            _bounded("stop", lambda: self._node.stop(why, code))

    def forget(self) -> None:
        self._running = False


def _bounded(what: str, call: Callable[[], Any]) -> None:
    errand = Errand(call)
    apart(errand.run, f"lifecycle-node-{what}")
    if not errand.done.wait(_BOUND):
        say(f"the node agent's {what}() does not return: left behind")
    elif errand.error is not None:
        say(f"the node agent's {what}() failed; the stop goes on\n{trace(errand.error)}")


class Leaving:
    """What must act when we go: each called once, at the drain's begin, on the loop or in a thread of its own."""

    def __init__(self, news: threading.Condition) -> None:
        self._news = news
        self._calls: List[Callable[[], Any]] = []
        self._begun = False
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self.pending = 0

    def add(self, call: Callable[[], Any]) -> None:
        """Register *call*; once we are leaving it is called at once."""
        with self._news:
            if not self._begun:
                self._calls.append(call)
                return
        self._begin(call)

    def begin(self, loop: Optional[asyncio.AbstractEventLoop]) -> None:
        with self._news:
            self._begun, self._loop = True, loop
            calls = list(self._calls)
        for call in calls:
            self._begin(call)

    def _begin(self, call: Callable[[], Any]) -> None:
        with self._news:
            self.pending += 1
        errand = Errand(call)
        errand.then(lambda: self._ended(errand))
        apart(lambda: errand.run(self._loop), "lifecycle-leaving")

    def _ended(self, errand: Errand) -> None:
        if errand.error is not None:
            say(f"a part that was told to leave failed; the stop goes on\n{trace(errand.error)}")
        with self._news:
            self.pending -= 1
            self._news.notify_all()


def until(
    news: threading.Condition, condition: Callable[[], Any], deadline: float, tick: Optional[Callable[[], None]] = None
) -> bool:
    """
    Wait until *condition* holds, looked at when *news* comes; False when *deadline* (monotonic) passes first.

    *tick*, if there is one, is called about once a second meanwhile, without the lock.
    """
    while True:
        left = deadline - time.monotonic()
        with news:
            if news.wait_for(lambda: bool(condition()), max(0.0, left if tick is None else min(left, 1.0))):
                return True
        if time.monotonic() >= deadline:
            return False
        if tick is not None:
            tick()
