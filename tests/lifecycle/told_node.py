"""What the programs under test share: a line on stdout, and a node agent that writes down what it is told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

_LOCK = threading.Lock()


def say(*words: Any) -> None:
    with _LOCK:
        sys.stdout.write(" ".join(str(word) for word in words) + "\n")
        sys.stdout.flush()


class Node:
    """Does *on[what]* when it is told *what*: "start", "leaving" or "stop"."""

    def __init__(self, **on: Callable[[], None]) -> None:
        self._on = on
        self.facts: Callable[[], Any] | None = None

    def start(self, facts: Callable[[], Any]) -> None:
        self.facts = facts
        self._told("start")

    def changed(self) -> None:
        self._on.get("changed", lambda: None)()

    def leaving(self, why: str) -> None:
        self._told("leaving", why)

    def stop(self, why: str, code: int = 1000) -> None:
        self._told("stop", why, code)

    def _told(self, what: str, *words: Any) -> None:
        say("node", what, *words)
        self._on.get(what, lambda: None)()


_CHILD = """
import signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
print("child up", flush=True)
while not asked:
    time.sleep(0.01)
time.sleep(0.3)
print("child asked", len(asked), flush=True)
"""


def child() -> list[str]:
    """A command that ends when it is asked to, 300 ms later, and says how often it was."""
    return [sys.executable, "-c", _CHILD]
