"""The events of one command, on their way from the host to whoever shows them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from deployer.errors import DeployerError

Event = dict[str, Any]
Emit = Callable[[Event], None]


class Stream:
    """Stamps the client's own events, passes the host's on, and remembers how the host finished."""

    def __init__(self, deploy: str | None, emit: Emit) -> None:
        self.deploy = deploy  # None while there is none, as when nothing is under way
        self.finished: Event | None = None
        self.seen = 0
        self.serving: str | None = None  # the release that runs while nothing has been changed
        self.committed = False  # from here on the host goes on without us
        self._emit = emit
        self.started_at = time.monotonic()

    def event(self, name: str, **fields: Any) -> None:
        """An event of the client."""
        self._emit({"v": 1, "time": now(), "deploy": self.deploy, "event": name, **fields})

    def passed(self, event: Event) -> None:
        """An event of the host."""
        self.seen = max(self.seen, int(event.get("seq") or 0))
        if event["event"] == "host.finished":
            self.finished = event
        self._emit(event)

    def failed(self, error: DeployerError, host: str) -> None:
        """The host's part ended before its runner could say so."""
        self.passed(
            {
                "v": 1, "time": now(), "deploy": self.deploy, "host": host, "event": "host.finished", "status": "failed",
                "gap_ms": None, "release": self.serving, "exit_code": error.code, "error": error.to_json(),
            }
        )  # fmt: skip

    def finish(self, kind: str) -> int:
        """Emit `<kind>.finished` from what the host said, or that we left it to itself; the exit code."""
        detached: Event = {"status": "detached", "exit_code": 0, "release": self.serving, "host": "local"}
        last = self.finished or detached
        hosts = [{"host": last["host"], "status": last["status"], "release": last["release"]}]
        name = "push" if kind == "rollback" else kind
        self.event(f"{name}.finished", status=last["status"], exit_code=last["exit_code"], hosts=hosts, kind=kind)
        return int(last["exit_code"])


def now() -> str:
    """UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
