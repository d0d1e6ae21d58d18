"""What the engine asks of whoever owns the app's process: the built-in keeper, systemd, launchd, a user's commands."""

from __future__ import annotations

from typing import Any, Dict, Optional, Protocol

from deployer.model import DrainOrder, Identity, Spec


class Watched(Protocol):
    """Something whose instances can be looked at: all that the proof of readiness needs."""

    def status(self) -> Dict[str, Any]:
        """`desired`: the wished instance's record; `instances`: what runs, each with its processes and its drain."""

    def wait(self, deadline: float) -> None:
        """Return when something may have changed, at the latest at *deadline* (monotonic seconds)."""


class Supervisor(Watched, Protocol):
    """
    The owner of the app's process tree and socket.

    `replace` is the one dangerous promise: when it returns, the supervisor will ask what runs to stop, wait for it up to
    the ceiling, and start *new*, whether or not its caller lives on. Asking twice for the same instance is asking once.
    """

    def replace(self, deploy: str, who: str, new: Optional[Spec], how: DrainOrder, confirmed: bool = False) -> None:
        """Hand over the promise. *new* None means: nothing shall run."""

    def launch(self, deploy: str, new: Spec) -> None:
        """Start *new* beside what runs. It is not what shall run: a crash ends it, and only `retire` makes it the service."""

    def retire(self, deploy: str, who: str, keep: str, how: DrainOrder) -> None:
        """
        *keep*, which was launched and has proven itself, is what shall run; all others drain. Safe as `replace` is.
        """

    def dismiss(self, deploy: str, who: str, instance: str, how: DrainOrder) -> None:
        """Let *instance*, which was launched and never became the service, drain."""

    def record(self, instance: str) -> Optional[Dict[str, Any]]:
        """What is on record of *instance*, running or not, as `desired` in `status`."""

    def adopt(self, spec: Spec, identity: Identity) -> None:
        """Count a process that somebody else started as the running instance."""

    def confirm(self, instance: str) -> None:
        """*instance* has proven itself and may be restarted when it crashes."""

    def move_deadline(self, instance: str, deadline: float, who: str = "") -> bool:
        """Move the ceiling of a drain to *deadline* (monotonic seconds), as *who* asked. False when it is too late for that."""

    def close(self) -> None:
        """Say goodbye: what was promised goes on, nobody needs to look after the caller."""
