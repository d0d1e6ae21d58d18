"""What is in flight, by name: counted from enter to exit, refused while we leave."""

from __future__ import annotations

import itertools
import threading
import time
from contextvars import ContextVar, Token
from typing import Any, Callable, Dict, List, Optional, Tuple

_CURRENT: ContextVar[Optional["InFlight"]] = ContextVar("deployer_task", default=None)
"""The innermost piece of work of this context. asyncio's tasks and `to_thread` copy it; a plain thread starts without."""


class ShuttingDown(Exception):
    """New work was refused: this process is leaving. Whoever sent it should send it elsewhere."""


class InFlight:
    """One piece of work under way."""

    __slots__ = ("began", "cut", "id", "late", "name", "parent", "request", "started_at")

    def __init__(self, number: int, name: str, parent: Optional[InFlight], late: bool) -> None:
        self.id, self.name, self.parent, self.late = str(number), name, parent, late
        self.started_at, self.began = time.time(), time.monotonic()
        self.cut = self.request = False

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def listed(self) -> Dict[str, Any]:
        return {"id": self.id, "name": self.name, "started_at": instant(self.started_at)}


_Entered = Tuple[InFlight, "Token[Optional[InFlight]]"]


class Tasks:
    """
    Everything in flight. `close` ends the time of new work: what was not in by then stays out."""

    def reset(self, news: threading.Condition, changed: Callable[[], None]) -> None:
        """
        Nothing is in flight, and new work is welcome.

        *news* is notified when something ends after `close`; *changed* is called after each beginning and end, from any thread.
        """
        self._news, self._changed = news, changed
        self._closed = False
        self._numbers = itertools.count(1)
        self._in_flight: Dict[str, InFlight] = {}

    @property
    def busy(self) -> int:
        return len(self._in_flight)

    def now(self) -> List[InFlight]:
        """What is in flight, the oldest first. A request is not named beside the tasks that it consists of."""
        with self._news:
            found = list(self._in_flight.values())
        named = {id(work.parent) for work in found}
        return [work for work in found if not (work.request and id(work) in named)]

    def close(self) -> None:
        with self._news:
            self._closed = True

    def enter(self, name: str, part: bool = False) -> InFlight:
        """Count *name* in. Raises ShuttingDown after `close`, except for parts of what is in flight."""
        with self._news:
            parent = self.around()
            if self._closed and parent is None and not (part and self._in_flight):
                raise ShuttingDown(f'"{name}" was not started: this process is leaving')
            work = InFlight(next(self._numbers), name, parent, late=self._closed)
            self._in_flight[work.id] = work
        self._changed()
        return work

    def receive(self, name: str) -> InFlight:
        """Count a request in, after `close` too: it was accepted, and whether it may begin anything is for others to say."""
        with self._news:
            work = InFlight(next(self._numbers), name, None, late=self._closed)
            work.request = True
            self._in_flight[work.id] = work
        self._changed()
        return work

    def leave(self, work: InFlight) -> None:
        """Count *work* out; once more changes nothing."""
        with self._news:
            if self._in_flight.pop(work.id, None) is None:
                return
            if self._closed:
                self._news.notify_all()
        self._changed()

    def around(self) -> Optional[InFlight]:
        """The piece of work in flight of which the caller is a part."""
        work = _CURRENT.get()
        while work is not None and self._in_flight.get(work.id) is not work:
            work = work.parent
        return work


class Task:
    """
    What `Lifecycle.task` returns: `with`, `async with`, or a decorator. One may be entered many times, at once too.

    As a decorator it keeps name and signature, and covers a generator from its first item to its end.
    """

    def __init__(self, tasks: Tasks, name: str, part: bool = False) -> None:
        self._tasks, self._name, self._part = tasks, name, part
        self._entered: List[_Entered] = []

    def __enter__(self) -> InFlight:
        work = self._tasks.enter(self._name, self._part)
        self._entered.append((work, _CURRENT.set(work)))
        return work

    def __exit__(self, kind: Any = None, *_error: object) -> None:
        entered = self._mine()
        self._entered.remove(entered)
        work, token = entered
        work.cut = kind is not None and (issubclass(kind, SystemExit) or kind.__name__ == "CancelledError")
        try:
            _CURRENT.reset(token)
        except ValueError:  # left in another context than entered in, as an abandoned async generator is
            pass
        self._tasks.leave(work)

    async def __aenter__(self) -> InFlight:
        return self.__enter__()

    async def __aexit__(self, kind: Any = None, *error: object) -> None:
        self.__exit__(kind, *error)

    def __call__(self, function: Any) -> Any:
        from deployer.lifecycle.wrapping import wrap  # costs an `import inspect`

        return wrap(function, lambda: Task(self._tasks, self._name, self._part))

    def __del__(self) -> None:
        for work, _token in getattr(self, "_entered", ()):  # entered and dropped: nobody may come to leave it any more
            self._tasks.leave(work)

    def _mine(self) -> _Entered:
        """Which of the pieces of work entered through this object the caller is leaving: its own, else the last."""
        current, entered = _CURRENT.get(), list(self._entered)
        return next((each for each in entered if each[0] is current), entered[-1])


def instant(seconds: float) -> str:
    """A time of day as the contract writes it: 2026-11-22T14:07:14.123Z."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds * 1000) % 1000:03d}Z"
