"""Ask the old process how its work is going, beside the drain: a hanging /health must never hold the drain up."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Dict, List, Optional

from deployer.host import health
from deployer.host.clock import Clock
from deployer.host.health import Answer

OFTEN, SELDOM, OFTEN_FOR = 0.25, 1.0, 30.0
"""Seconds between questions at first, later, and how long "at first" is."""
UNHEARD_AFTER = 10.0
"""Still "ok" so long after the signal: probably the app has not heard it."""


class Watch:
    """
    A thread that asks *url*, at the Unix socket *private* where there is one, until `stop`. Its fields may be read at any time;
    `url` None asks nothing. What the release *successor* answers there, which a supervisor has started by then, says nothing
    about the old one.
    """

    def __init__(
        self,
        url: Optional[str],
        timeout: float,
        busy: Optional[str],
        clock: Clock,
        private: Optional[Path] = None,
        successor: Optional[str] = None,
    ) -> None:
        self._successor = successor
        self._url = url
        self._private = private
        self._timeout = timeout
        self._busy = busy
        self._clock = clock
        self._stop = threading.Event()
        self.started = clock.now()
        self.last_good_at: Optional[float] = None
        self.answer: Answer = health.NO_URL
        self.last_with_work: Optional[Answer] = None
        self._worked: Dict[str, Dict[str, Any]] = {}
        self._unnamed = 0
        self._before: Dict[str, Any] = {}
        self._spoke = False
        self.probes = 0
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        if url:
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def lost(self) -> List[Dict[str, Any]]:
        """The tasks that the last answer named; unnamed ones where it only gave a number."""
        answer = self.last_with_work
        if answer is None:
            return [] if self._spoke else list(self._before.get("lost") or [])
        return answer.tasks or _unnamed(_count(answer))

    def worked(self) -> List[Dict[str, Any]]:
        """Every task that any answer has named, as it was last seen, the first seen first; else as many as there were."""
        return list(self._worked.values()) or list(self._before.get("worked") or []) or _unnamed(self._unnamed)

    @property
    def knows(self) -> bool:
        """Whether the app has ever said anything about its work."""
        return self._spoke or bool(self._before.get("spoke"))

    def memory(self) -> Dict[str, Any]:
        """What the next watch of the same drain must know: an app that drains often answers no more."""
        return {"lost": self.lost(), "worked": self.worked(), "spoke": self.knows}

    def recall(self, before: Dict[str, Any]) -> None:
        """Know what an earlier watch of the same drain knew, as its `memory` said."""
        self._before = before

    def heard(self) -> Optional[bool]:
        """Whether the app shows that it got the signal; None where that cannot be said (yet)."""
        if self.answer.health == "shutting_down":
            return True
        if self.answer.health == "ok" and self._clock.now() - self.started > UNHEARD_AFTER:
            return False
        return None

    def _run(self) -> None:
        assert self._url is not None
        while not self._stop.is_set():
            answer = health.ask(self._url, self._timeout, self._busy, self._private)
            now = self._clock.now()
            if self._stop.is_set() or (answer.release is not None and answer.release == self._successor):
                return
            self.probes += 1
            self.answer = answer
            self._remember(answer)
            if answer.speaks_of_work():
                self._spoke = True
                self.last_with_work = answer if answer.working() else None
            if answer.good:
                self.last_good_at = now
            self._stop.wait(OFTEN if now - self.started < OFTEN_FOR else SELDOM)

    def _remember(self, answer: Answer) -> None:
        self._unnamed = max(self._unnamed, _count(answer))
        for task in answer.tasks:
            name = str(task.get("id") or task.get("name"))
            if name in self._worked or len(self._worked) < health.TASKS_LIMIT:
                self._worked = {**self._worked, name: task}  # a new one: `worked` is asked from another thread


def _count(answer: Answer) -> int:
    """How many tasks *answer* speaks of without a name, one where it only says that it is busy."""
    if answer.tasks or not answer.busy:
        return 0
    return 1 if isinstance(answer.busy, bool) else min(answer.busy, health.TASKS_LIMIT)


def _unnamed(count: int) -> List[Dict[str, Any]]:
    return [{"id": None, "name": "(a task without a name)", "started_at": None, "age_s": None}] * count
