"""A reader of /events: is written to and never waited for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import h11

from deployer.registry.listing import listed

if TYPE_CHECKING:
    from deployer.registry.server import Registry


class EventReader(asyncio.BufferedProtocol):
    """
    Has what it missed, or all nodes, and then every event. One that falls behind too far is cut off.

    The nodes are written piece by piece, and what happens meanwhile waits behind them.
    """

    def __init__(self, registry: Registry, transport: asyncio.Transport, http: h11.Connection) -> None:
        self._registry = registry
        self._transport = transport
        self._http = http
        self._first: Iterator[bytes] | None = None
        self._behind: list[bytes] = []
        self._waiting = 0
        self._full = False

    def open(self, last: str) -> None:
        self._notice_a_dead_peer()
        feed = self._registry.feed
        missed = feed.since(int(last)) if last.isascii() and last.isdigit() and len(last) < 20 else None
        self._write(b"retry: 1000\n\n")
        self._first = missed if missed is not None else self._snapshot(feed.number)
        feed.join(self)
        self._one_more_piece()

    def send(self, piece: bytes) -> None:
        if self._first is None:
            self._write(piece)
        else:
            self._behind.append(piece)
            self._waiting += len(piece)
        if self._waiting + self._transport.get_write_buffer_size() > self._may_be_behind:
            self._registry.slow_reader(self)
            self._transport.abort()

    @property
    def _may_be_behind(self) -> int:
        return self._registry.settings.unread_each(len(self._registry.feed))

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._one_more_piece()

    def _snapshot(self, number: int) -> Iterator[bytes]:
        yield f'event: snapshot\nid: {number}\ndata: {{"nodes":'.encode()
        yield from listed(self._registry.documents())
        yield b"}\n\n"

    def _one_more_piece(self) -> None:
        if self._first is None or self._full or self._transport.is_closing():
            return
        piece = next(self._first, None)
        if piece is not None:
            self._write(piece)
            if not self._full:
                self._registry.loop.call_soon(self._one_more_piece)
            return
        behind, self._first, self._behind, self._waiting = self._behind, None, [], 0
        if behind:
            self._write(b"".join(behind))

    def end(self) -> None:
        if not self._transport.is_closing():
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
