"""How a registry is run. Durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deployer.errors import UsageError
from deployer.registry.tokens import Tokens


@dataclass(frozen=True)
class Settings:
    """What `registry serve` was asked for."""

    host: str = "127.0.0.1"
    port: int = 7070
    heartbeat: float = 5.0
    timeout: float = 15.0
    sweep: float = 60.0
    forget: float = 86400.0
    state: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tokens: Tokens = field(default_factory=Tokens)

    register_within: float = 10.0
    """From the connection to a whole request, and to `register`: who is slower is cut off."""
    idle: float = 75.0
    """Between two requests of one connection, and for reading an answer."""
    close_within: float = 1.0
    """For the other side to answer a close frame."""
    per_second: float = 40.0
    """Frames of one node; a node is told to send 20 at most."""
    at_once: float = 200.0
    unread: int = 8 * 1024 * 1024
    """Bytes that a reader of /events may be behind before it is cut off; ten thousand nodes that leave at once are 5 MiB."""
    unread_by_all: int = 256 * 1024 * 1024
    """Bytes that all of them together may be behind."""

    def unread_each(self, readers: int) -> int:
        """Bytes that one of so many *readers* may be behind."""
        return min(self.unread, self.unread_by_all // max(1, readers))


def address(text: str) -> tuple[str, int]:
    """Host and port in *text*; UsageError where there are none."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f'"{text[:100]}" is no address to listen on', hint="--listen 127.0.0.1:7070, or [::1]:7070")
    return host, int(port)
