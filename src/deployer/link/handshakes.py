"""How many may shake hands with one server at once: sshd drops by chance what is above MaxStartups (10:30:100)."""

from __future__ import annotations

import threading
from collections import defaultdict

AT_ONCE = 8


class Handshakes:
    """A turn for each address. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[object, threading.BoundedSemaphore] = defaultdict(lambda: threading.BoundedSemaphore(AT_ONCE))

    def turn(self, address: object) -> threading.BoundedSemaphore:
        """To be held from the connection to the end of the login at *address*."""
        with self._lock:
            return self._turns[address]


HANDSHAKES = Handshakes()
