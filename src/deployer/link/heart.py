"""One pulse for all links of this process: it beats on each, and ends those whose peer has fallen silent."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Protocol


class Beating(Protocol):
    """What the heart keeps alive."""

    def beat(self, now: float) -> float:
        """Do what is due at *now* (monotonic); when to come again. Never blocks. Infinity: never."""

    def fail(self, error: Exception) -> None:
        """`beat` met *error*, and is not called again: end this one. Never blocks."""


class Heart:
    """A thread that lives as long as there is somebody to beat for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._links: weakref.WeakSet[Beating] = weakref.WeakSet()
        self._thread: threading.Thread | None = None

    def add(self, link: Beating) -> None:
        with self._changed:
            self._links.add(link)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, link: Beating) -> None:
        with self._changed:
            self._links.discard(link)
            self._changed.notify()

    def _run(self) -> None:
        try:
            self._keep()
        finally:
            with self._changed:
                if self._thread is threading.current_thread():
                    self._thread = None  # `add` starts another

    def _keep(self) -> None:
        while True:
            with self._changed:
                links = list(self._links)
                if not links:
                    self._thread = None
                    return
            due = min([self._beat(link) for link in links])
            del links
            with self._changed:
                self._changed.wait(max(0.01, min(due - time.monotonic(), 5.0)))

    def _beat(self, link: Beating) -> float:
        try:
            return link.beat(time.monotonic())
        except Exception as error:  # one host must not stop the pulse of the others
            self.remove(link)
            link.fail(error)
            return float("inf")


HEART = Heart()
