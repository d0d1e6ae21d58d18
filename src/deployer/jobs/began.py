"""What a service began beside itself, threads and processes, so that its end can be looked for."""

from __future__ import annotations

import threading
from typing import List, Set

from deployer.jobs.identity import Identity, children, gone, lives
from deployer.jobs.limits import Deadline


class Began:
    """As a context: remembers the threads and child processes that are there at its end and were not at its beginning."""

    def __init__(self) -> None:
        self._threads: Set[threading.Thread] = set()
        self._children: Set[Identity] = set()

    def __enter__(self) -> "Began":
        self._threads = set(threading.enumerate())
        self._children = set(children())
        return self

    def __exit__(self, *_: object) -> None:
        self._threads = set(threading.enumerate()) - self._threads
        self._children = set(children()) - self._children

    def left(self, within: float) -> List[str]:
        """What still runs of it after *within* seconds at the longest."""
        deadline = Deadline(within)
        for thread in self._threads:
            thread.join(deadline.left())
        for child in self._children:
            gone(child, deadline.left() or 0.0)
        threads = [f"thread {thread.name}" for thread in self._threads if thread.is_alive()]
        return threads + [
            f"process {child[1]}" for child in self._children if lives(child) and not _of_python(child[1])
        ]


def _of_python(pid: int) -> bool:
    """`multiprocessing` has a helper for the whole process, which whoever uses it first begins."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"multiprocessing.resource_tracker" in file.read()
    except OSError:
        return True
