"""A service that is an object of this process."""

from __future__ import annotations

from typing import Any, List

from deployer.jobs.began import Began
from deployer.jobs.closing import Closed, close
from deployer.jobs.spec import ServiceSpec

_LINGER = 1.0
"""Seconds in which what the service began may end after its clean-up."""


class LocalService:
    def __init__(self, spec: ServiceSpec) -> None:
        self._spec = spec
        self._instance: Any = None
        self._began = Began()

    @property
    def target(self) -> Any:
        """What a reference's attributes are those of."""
        return self._instance

    def start(self) -> None:
        """Build it, in this thread. Raises what its class raises."""
        with self._began:
            self._instance = self._spec.build()

    def left(self) -> List[str]:
        """What is there of one that could not be built."""
        return self._began.left(_LINGER)

    def close(self) -> Closed:
        """
        End it, and look whether it has: the threads and processes that building it began, too. What hangs there is left running,
        for nobody can end a thread from outside.
        """
        closed = close(self._instance, self._spec.cleanup_timeout)
        left = self._began.left(min(_LINGER, self._spec.cleanup_timeout))
        if not left:
            return closed
        said = f"what it began still runs: {', '.join(left)}"
        return closed._replace(running=True, error=f"{closed.error}; {said}" if closed.error else said)
