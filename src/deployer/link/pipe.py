"""The seam between the two SSH clients and all that is above them: one command on a host, as a pair of byte streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from deployer.errors import DeployerError


@dataclass(frozen=True)
class End:
    """How the command on the host ended: its exit status (None: unknown), what it said on stderr; `error`: it never began."""

    status: int | None
    said: str
    error: DeployerError | None = None


class Pipe(Protocol):
    """Bytes both ways. Raises OSError when the link is broken, and nothing else."""

    @property
    def login_within(self) -> float:
        """Seconds that a login may still take before the first byte; none where it is over."""

    def read(self, most: int) -> bytes:
        """Some bytes, at most *most*; blocks. Empty at the end."""

    def ready(self) -> bool:
        """Whether `read` would return at once."""

    def writable(self) -> bool:
        """Whether `write` would take a few bytes at once."""

    def write(self, data: bytes) -> None:
        """Hand all of *data* over; blocks while the other side does not read."""

    def stop(self) -> None:
        """From any thread: every `read` and `write` ends at once, and the command loses its input. Twice is fine."""

    def end(self) -> End:
        """How it ended, after `read` gave nothing more; waits a moment for the last words."""
