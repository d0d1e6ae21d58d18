"""Threads of this process that do the work of a stage."""

from __future__ import annotations

import queue
import threading
from typing import Any, List, Optional, Sequence, Tuple

from deployer.jobs.limits import Deadline
from deployer.jobs.work import Done, Step, work


class Threads:
    """
    Daemon threads, so that one whose call never returns cannot keep the interpreter from its end: the reason why this is not a
    ThreadPoolExecutor, which joins its threads at exit, however long that takes.
    """

    def __init__(self, workers: int, steps: Sequence[Step]) -> None:
        self.at_once = 2 * workers  # as many wait as are worked on, so that no thread waits for the one who hands out
        self._steps = steps
        self._workers = workers
        self._todo: "queue.SimpleQueue[Optional[Tuple[int, List[Any]]]]" = queue.SimpleQueue()
        self._done: "queue.SimpleQueue[Tuple[int, Done]]" = queue.SimpleQueue()
        self._threads: List[threading.Thread] = []
        self._stopping = threading.Event()

    def begin(self, number: int, items: List[Any]) -> None:
        self._todo.put((number, items))
        if len(self._threads) < self._workers:
            thread = threading.Thread(target=self._run, name=f"{self._steps[0][0]}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def finished(self, within: Optional[float]) -> Optional[Tuple[int, Done]]:
        try:
            return self._done.get(timeout=within)
        except queue.Empty:
            return None

    def stop(self, within: float) -> None:
        self._stopping.set()
        for _ in self._threads:
            self._todo.put(None)
        deadline = Deadline(within)
        for thread in self._threads:
            if thread.ident is not None:  # a Ctrl-C came between its making and its start
                thread.join(deadline.left())

    def left(self) -> List[str]:
        return [f"{thread.name} still runs in a thread" for thread in self._threads if thread.is_alive()]

    def _run(self) -> None:
        while True:
            todo = self._todo.get()
            if todo is None or self._stopping.is_set():
                return
            number, items = todo
            done = work(self._steps, items)
            if done[1] is not None:  # here and now: the job's own thread hears of it after others have begun the next
                self._stopping.set()
            self._done.put((number, done))
