"""The seam: a byte stream to one host's engine. Everything above it is the same for this machine and for SSH."""

from __future__ import annotations

from typing import Protocol

from deployer.wire.frames import Frame


class Channel(Protocol):
    """Frames both ways. Raises LinkError when the other side is gone or talks nonsense."""

    @property
    def squeezes(self) -> bool:
        """Whether it is a link, on which fewer bytes may be worth the work; not a pipe on this machine."""

    def send(self, frame: Frame) -> None:
        """Hand *frame* over; blocks while the other side does not read."""

    def receive(self) -> Frame | None:
        """The next frame; None when the other side has closed."""

    def waiting(self) -> bool:
        """Whether `receive` would have something at once, the end included. Asked only between an answer and the next."""

    def leave(self) -> None:
        """Begin to let go, and wait for nothing: for many at once, before each is closed. Twice is fine."""

    def close(self) -> None:
        """Let go. What was committed goes on; anything else ends with the connection."""
