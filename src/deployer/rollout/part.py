"""One host's part in a command: what was heard from it, how it ended, and whether it goes on there without us."""

from __future__ import annotations

from typing import Any

from deployer.errors import AbortedError, DeployerError
from deployer.rollout.events import Event, Stream, now
from deployer.rollout.outcome import NEW, HostResult

OURS = ("push.", "rollout.", "batch.", "bake.", "link.")
"""Events that a client tells, and no host."""


class Part:
    """Passes *host*'s events to *stream* and remembers what a result, a re-attach and an interrupted client need."""

    def __init__(self, host: str, stream: Stream, deploy: str | None = None) -> None:
        self.host = host
        self.stream = stream
        self.deploy = deploy or stream.deploy
        self.seen = 0
        self.printed = 0  # the byte of its job's output up to which we have heard
        self.serving: str | None = None  # the release that runs while nothing has been changed
        self.committed = False  # from here on the host goes on without us
        self.finished: Event | None = None
        self.aborted = False  # somebody wanted this to end
        self.brought: str | None = None  # the new release, once it serves

    def event(self, name: str, **fields: Any) -> None:
        """An event of ours about this host."""
        self.stream.event(name, host=self.host, **fields)

    def passed(self, event: Event) -> None:
        """An event of the host. It names itself as we do: the same machine may stand in a config under two names."""
        event = {**event, "host": self.host, "deploy": self.deploy}
        if str(event["event"]).startswith(OURS) or "hosts" in event:
            return  # a host speaks for itself only
        self.seen = max(self.seen, int(event.get("seq") or 0))
        if event["event"] == "job.output":
            self.printed = max(self.printed, int(event.get("at") or 0))
        self.aborted = self.aborted or event["event"] == "abort.asked"
        if event["event"] == "switched":
            self.brought = event.get("release")
        if event["event"] == "host.finished":
            self.finished = event = {**event, "exit_code": _code(event)}
        self.stream.passed(event)

    def ended(self, status: str, exit_code: int, error: DeployerError | None = None) -> None:
        """The host's part has ended in a way that no runner tells."""
        told = {"error": error.to_json()} if error else {}
        self.passed(
            {
                "v": 1, "time": now(), "deploy": self.deploy, "host": self.host, "event": "host.finished", "status": status,
                "gap_ms": None, "release": self.serving, "exit_code": exit_code, **told,
            }
        )  # fmt: skip

    def failed(self, error: DeployerError, status: str = "failed") -> None:
        """As `ended`, with the exit code of *error*."""
        self.aborted = self.aborted or isinstance(error, AbortedError)
        self.ended(status, error.code, error)

    @property
    def result(self) -> HostResult:
        """How it ended; detached where it goes on without us, untouched where it was never begun."""
        last = self.finished
        if last is None:
            serves = self.brought or self.serving
            return HostResult(self.host, "detached" if self.committed else "untouched", serves, 0)
        return HostResult(self.host, str(last["status"]), last["release"], int(last["exit_code"]))


def _code(event: Event) -> int:
    """The exit code in a `host.finished`: never 0 for what has failed, whatever the host says."""
    code = event.get("exit_code")
    fine = isinstance(code, int) and 0 <= code < 256 and (code != 0 or event["status"] in (*NEW, "untouched"))
    return int(code) if fine and code is not None else 1
