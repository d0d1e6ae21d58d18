"""One connection of the load, and how the loss of a request on it is told from the others."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from load_answer import Answer

FULL_QUEUE_PAUSE = 0.005
"""Seconds. A Unix socket whose queue is full says EAGAIN, where TCP would wait by itself."""


class Loss(Exception):
    """A request without its answer: the class of the loss, then what was seen."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time. `usable` until the server has said or shown that it will close it."""

    def __init__(self) -> None:
        self.usable = True
        self.told_to_close = False
        self._answers = 0
        self._answer = Answer()
        self._wanted: asyncio.Future[Answer] | None = None
        self._early: Loss | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    async def ask(self, request: bytes) -> Answer:
        """The whole answer. Raises Loss."""
        if self._early is not None:  # it has ended before we could ask
            raise self._early
        self._answer = Answer()
        self._wanted = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._wanted
        finally:
            self._wanted = None
            self._answers += 1

    @property
    def reused(self) -> bool:
        return self._answers > 0

    def data_received(self, data: bytes) -> None:
        try:
            whole = self._answer.feed(data)
        except ValueError as error:
            return self._lost(Loss("other", f"not HTTP: {error}"))
        if whole:
            self.told_to_close = self._answer.closes
            self.usable = self.usable and not self._answer.closes
            self._end(self._answer)

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended(error)

    def close(self) -> None:
        self.usable = False
        self._transport.abort()

    def _ended(self, error: Exception | None) -> None:
        self.usable = False
        if error is None and self._answer.ends_with_connection:
            self._end(self._answer)
        elif self._answer.begun:
            self._lost(Loss("cut", f"after {self._answer.size} bytes: {error or 'EOF'}"))
        elif error is not None:
            self._lost(Loss("reset" if isinstance(error, ConnectionError) else "other", str(error)))
        else:
            self._lost(Loss("eof_reused" if self.reused else "eof_fresh", "EOF"))

    def _lost(self, loss: Loss) -> None:
        self.usable = False
        if self._wanted is None:
            self._early = self._early or loss
        elif not self._wanted.done():
            self._wanted.set_exception(loss)

    def _end(self, answer: Answer) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(answer)


async def connect(address: Any) -> Connection:
    """A new connection to a path, or to (host, port). Raises OSError."""
    unix = isinstance(address, str)
    family = socket.AF_UNIX if unix else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    loop, client = asyncio.get_running_loop(), socket.socket(family)
    client.setblocking(False)
    try:
        if unix:
            await _connect_unix(client, address)
        else:
            await loop.sock_connect(client, address)
        return (await loop.create_connection(Connection, sock=client))[1]
    except BaseException:
        client.close()
        raise


async def _connect_unix(client: socket.socket, path: str) -> None:
    while True:
        try:
            return client.connect(path)
        except BlockingIOError:
            await asyncio.sleep(FULL_QUEUE_PAUSE)
