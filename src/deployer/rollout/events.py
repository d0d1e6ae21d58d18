"""The events of one command, on their way from the hosts to whoever shows them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from deployer.rollout.outcome import HostResult, outcome

Event = dict[str, Any]
Emit = Callable[[Event], None]


class Stream:
    """Stamps the client's own events and passes the hosts' on: one at a time, from whichever thread."""

    def __init__(self, deploy: str | None, emit: Emit) -> None:
        self.deploy = deploy  # None while there is none, as when nothing is under way
        self.started_at = time.monotonic()
        self._emit = emit
        self._one_at_a_time = threading.RLock()

    def event(self, name: str, **fields: Any) -> None:
        """An event of the client; `host` is among *fields* where it concerns one."""
        self.passed({"v": 1, "time": now(), "deploy": self.deploy, **_first("host", fields), "event": name, **fields})

    def passed(self, event: Event) -> None:
        """An event as it is."""
        with self._one_at_a_time:
            self._emit(event)

    def finish(self, kind: str, results: Sequence[HostResult], max_unreachable: int = 0, **more: Any) -> int:
        """Emit `<kind>.finished`, the last event, from what became of each host; the exit code."""
        status, code = outcome(results, max_unreachable)
        hosts = [{"host": one.host, "status": one.status, "release": one.release} for one in results]
        name = "push" if kind == "rollback" else kind
        self.event(f"{name}.finished", status=status, exit_code=code, hosts=hosts, kind=kind, **more)
        return code


def _first(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields[name]} if name in fields else {}


def now() -> str:
    """UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
