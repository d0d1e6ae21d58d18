"""A reader of /events: is written to and never waited for."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import h11

if TYPE_CHECKING:
    from deployer.registry.server import Registry


class EventReader(asyncio.BufferedProtocol):
    """Has what it missed, or all nodes, and then every event. One that falls behind too far is cut off."""

    __slots__ = ("_allowed", "_http", "_registry", "_transport")

    def __init__(self, registry: Registry, transport: asyncio.Transport, http: h11.Connection) -> None:
        self._registry = registry
        self._transport = transport
        self._http = http
        self._allowed = registry.settings.unread

    def open(self, last: str) -> None:
        self._notice_a_dead_peer()
        missed = self._registry.feed.since(int(last)) if last.isascii() and last.isdigit() else None
        first = b"".join(missed) if missed is not None else self._registry.snapshot()
        self._allowed += len(first)
        self._registry.feed.join(self)
        self._write(b"retry: 1000\n\n" + first)

    def send(self, piece: bytes) -> None:
        self._write(piece)
        if self._transport.get_write_buffer_size() > self._allowed:
            self._registry.slow_reader(self)
            self._transport.abort()

    def end(self) -> None:
        self._transport.write(self._http.send(h11.EndOfMessage()) or b"")
        self._transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._registry.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Whoever reads events has nothing more to say."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._registry.feed.leave(self)

    def _write(self, piece: bytes) -> None:
        self._transport.write(self._http.send(h11.Data(data=piece)) or b"")

    def _notice_a_dead_peer(self) -> None:
        """The kernel gives up a reader whose cable was pulled, though it never says anything."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
