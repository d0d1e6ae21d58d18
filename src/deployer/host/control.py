"""What people ask of a deploy under way, from any terminal: queued by whoever listens, taken up by the runner's own thread."""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Deque, Dict, Optional, Tuple

from deployer.errors import DeployerError, FailedError
from deployer.host import pipes

ABORT, EXTEND, NOW = WORDS = ("abort", "extend", "now")
ANSWER_WITHIN = 10.0
"""Seconds that an asker waits for the runner to come up for air; what was asked stands either way."""


@dataclass
class Asked:
    """One request: *what* (ABORT, EXTEND, NOW), by *who*; *seconds* with EXTEND. Answered once."""

    what: str
    who: str
    seconds: float = 0.0
    _answer: Optional[Dict[str, Any]] = None
    _answered: threading.Event = field(default_factory=threading.Event)

    def done(self, **facts: Any) -> None:
        """It has been done; *facts* are for who asked."""
        self._settle({"ok": facts})

    def refused(self, error: DeployerError) -> None:
        """It was not done, and will not be."""
        self._settle({"error": error.to_json()})

    def too_late(self) -> None:
        """The deploy has ended by itself: who wanted to abort it sees how, anybody else is refused."""
        if self.what == ABORT:
            self.done(over=True)
        else:
            self.refused(over())

    def answer(self, within: float = ANSWER_WITHIN) -> Dict[str, Any]:
        """What became of it: `ok` or `error`."""
        if self._answered.wait(within) and self._answer is not None:
            return self._answer
        return {"error": _busy(self.what).to_json()}

    def _settle(self, answer: Dict[str, Any]) -> None:
        self._answer = answer
        self._answered.set()


class Control:
    """A queue whose `fileno()` is readable while something is in it, so that every wait of the runner can end for it."""

    def __init__(self) -> None:
        self._pipe: Optional[Tuple[int, int]] = None
        self._asked: Deque[Asked] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def fileno(self) -> int:
        """A descriptor to wait for; made when somebody wants to."""
        with self._lock:
            if self._pipe is None:
                self._pipe = pipes.waking()
                os.write(self._pipe[1], b"!" * len(self._asked))
            return self._pipe[0]

    def ask(self, asked: Asked) -> Asked:
        """Queue *asked* for the runner; answered at once when the deploy has ended."""
        with self._lock:
            if self._closed:
                asked.too_late()
                return asked
            self._asked.append(asked)
            if self._pipe is not None:
                os.write(self._pipe[1], b"!")
        return asked

    def pending(self) -> bool:
        """Whether something waits to be taken up."""
        return bool(self._asked)

    def take(self) -> Optional[Asked]:
        """The next request, or None when there is none."""
        with self._lock:
            if not self._asked:
                return None
            if self._pipe is not None:
                os.read(self._pipe[0], 1)
            return self._asked.popleft()

    def close(self) -> None:
        """The deploy has ended: what is still queued, and what comes, is told so."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            left, self._asked = list(self._asked), deque()
            for fd in self._pipe or ():
                os.close(fd)
            self._pipe = None
        for asked in left:
            asked.too_late()


def over() -> FailedError:
    """The deploy has ended before it could be asked anything."""
    return FailedError("the deploy has just ended", state="`deployer status` says what runs")


def _busy(what: str) -> FailedError:
    return FailedError(
        f"the deploy did not answer to {what} within {ANSWER_WITHIN:g} s",
        cause="it is in the middle of something that cannot be interrupted; it was asked all the same",
        state="it takes the request up as soon as it can",
        hint="see `deployer attach`",
    )
