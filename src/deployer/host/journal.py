"""A deploy's journal: each step written down before and after it is done, and the events that followers see."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from deployer.host.clock import Clock
from deployer.host.state import State

Event = Dict[str, Any]


def timestamp(at: float) -> str:
    """UTC with milliseconds, as events carry it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"


class Journal:
    """
    The record of one deploy. `redact` is applied to every text before it is stored or shown.

    Durable events have a number (`seq`); progress has none, is only shown, and the last one is repeated to who comes late.
    """

    def __init__(
        self, state: State, deploy: str, host: str, redact: Callable[[Any], Any], clock: Optional[Clock] = None
    ) -> None:
        self._state = state
        self._clock = clock or Clock()
        self.deploy = deploy
        self._host = host
        self.redact = redact
        self._condition = threading.Condition()
        self._events: List[Event] = [json.loads(row["event"]) for row in events(state, deploy)]
        self._progress: Optional[Event] = None
        self._progress_count = 0
        self._closed = False
        self.common: Dict[str, Any] = {}
        row = state.row("SELECT max(seq) AS last FROM journal WHERE deploy=?", deploy)
        self._seq = int(row["last"] or 0) if row else 0

    def begin(self, step: str, **data: Any) -> None:
        """*step* is about to be done."""
        with self._state.transaction():
            self._write(step, "begin", data)
            self._state.update("deploys", self.deploy, step=step)

    def done(self, step: str, **data: Any) -> None:
        """*step* has been done."""
        self._write(step, "done", data)

    def note(self, step: str, phase: str, **data: Any) -> None:
        """Something else about *step* that a resume must know."""
        self._write(step, phase, data)

    def has(self, step: str, phase: str) -> bool:
        """Whether there is an entry for *step* in *phase*."""
        return self.data(step, phase) is not None

    def data(self, step: str, phase: str) -> Optional[Dict[str, Any]]:
        """The data of the last entry for *step* in *phase*, or None when there is none."""
        row = self._state.row(
            "SELECT data FROM journal WHERE deploy=? AND step=? AND phase=? ORDER BY seq DESC LIMIT 1",
            self.deploy, step, phase,
        )  # fmt: skip
        found: Optional[Dict[str, Any]] = json.loads(row["data"]) if row else None
        return found

    def event(self, name: str, **fields: Any) -> None:
        """Tell every follower, and keep it."""
        event = self._make(name, fields)
        with self._condition:
            self._keep(event)
            self._tell(event)

    def end(self, name: str, **fields: Any) -> None:
        """
        The last event. It and the end of the deploy are on disk as one before anybody is told: no resume repeats it.

        Raises PreflightError when the disk refuses it; `progress` can still tell who listens.
        """
        event = self._make(name, fields)
        with self._condition:
            with self._state.transaction():
                self._keep(event)
                self._state.update(
                    "deploys", self.deploy, ended_at=self._clock.wall(), status=fields["status"],
                    exit_code=fields["exit_code"], result=self.redact(fields),
                )  # fmt: skip
            self._tell(event)

    def told(self, name: str) -> List[Event]:
        """The events called *name* so far, those of a runner that died included."""
        with self._condition:
            return [event for event in self._events if event["event"] == name]

    def progress(self, name: str, **fields: Any) -> None:
        """Tell every follower what is going on right now."""
        event = self._make(name, fields)
        with self._condition:
            self._progress = event
            self._progress_count += 1
            self._condition.notify_all()

    def follow(self, since: int, send: Callable[[Event], bool]) -> None:
        """Give every event after *since* to *send*, as they come, until the deploy ends or *send* says False."""
        shown = 0
        while True:
            with self._condition:
                while len(self._events) <= since and not self._closed and self._progress_count == shown:
                    self._condition.wait()
                batch = self._events[since:]
                since += len(batch)
                if self._progress is not None and self._progress_count != shown:
                    batch = [*batch, self._progress]
                shown = self._progress_count
                closed = self._closed
            if not all(send(event) for event in batch):
                return
            if closed and not batch:
                return

    def close(self) -> None:
        """Nothing more will come: followers are let go once they have everything."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _keep(self, event: Event) -> None:
        event["seq"] = len(self._events) + 1
        self._state.insert("events", deploy=self.deploy, seq=event["seq"], event=event)

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._progress = None
        self._condition.notify_all()

    def _make(self, name: str, fields: Dict[str, Any]) -> Event:
        event = {
            "v": 1,
            "time": timestamp(self._clock.wall()),
            "deploy": self.deploy,
            "host": self._host,
            "event": name,
        }
        event.update(self.common)
        event.update(self.redact(fields))
        return event

    def _write(self, step: str, phase: str, data: Dict[str, Any]) -> None:
        self._seq += 1
        self._state.insert(
            "journal", deploy=self.deploy, seq=self._seq, step=step, phase=phase, data=self.redact(data),
            at=self._clock.wall(),
        )  # fmt: skip


def events(state: State, deploy: str, since: int = 0) -> List[Dict[str, Any]]:
    """The stored events of *deploy* after number *since*."""
    return state.rows("SELECT event FROM events WHERE deploy=? AND seq>? ORDER BY seq", deploy, since)
