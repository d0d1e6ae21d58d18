"""HTTP requests in flight: waited for as work is, from their first byte to the last of the answer."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Optional, Type

from deployer.lifecycle.sockets import VARIABLES
from deployer.lifecycle.tasks import _CURRENT, InFlight, Tasks

RETRY_AFTER = "1"
REFUSED = b'{"error": "shutting down"}\n'
LARGEST_NAME = 20


class Requests:
    """
    *admit*: whether a request that is read while we leave may still begin tasks of its own.

    None: yes where our socket is held by somebody else. Such a request was accepted by us, and the next process cannot answer it:
    a 503 would be a loss that nobody needs. On a socket of our own, whoever asks us now is to ask somebody else.
    """

    def __init__(self, tasks: Tasks, admit: Optional[bool] = None) -> None:
        self._tasks, self._admit = tasks, admit

    def begin(self, method: object) -> Request:
        """Count one in. Paths stay out of the name: some hold a token."""
        work = self._tasks.receive(f"{str(method)[:LARGEST_NAME]} request")
        return Request(self._tasks, work, not work.late or self._admits())

    def hold(self, name: str) -> Request:
        """Count in what is to end before we do, and may not begin anything any more."""
        return Request(self._tasks, self._tasks.receive(name), False)

    def _admits(self) -> bool:
        return any(name in os.environ for name in VARIABLES) if self._admit is None else self._admit


class Request:
    """One in flight until `end`; `with request:` around the code that answers it, as often as there is some."""

    def __init__(self, tasks: Tasks, work: InFlight, admitted: bool) -> None:
        self._tasks, self._work, self._admitted = tasks, work, admitted

    def __enter__(self) -> Request:
        self._token = _CURRENT.set(self._work if self._admitted else None)
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], at: Optional[TracebackType]
    ) -> None:
        try:
            _CURRENT.reset(self._token)
        except ValueError:  # left in another context, as an abandoned generator is
            pass

    def end(self) -> None:
        """It has been answered; once more changes nothing."""
        self._tasks.leave(self._work)
