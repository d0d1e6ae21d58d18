"""One connection of a node to its registry, from the handshake to its end. The only importer of websockets."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import ssl
import time
from typing import Any, Callable, Dict, Optional

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from deployer.lifecycle.node_words import LARGEST, Words

log = logging.getLogger("deployer.lifecycle.node")

BEAT = 5.0
"""Seconds between two heartbeats, until the registry says how it wants them."""
CHANGES_APART = 0.05
"""Seconds between two heartbeats that only tell a change."""
OPEN_WITHIN = 10.0
"""Seconds for the connection and the registry's welcome."""
RESTARTED, REPLACED = 1012, 4000
FAULTS = (1002, 1007, 1008, 1009, 4002)
"""Codes with which the registry refuses what we say: to come back at once would only be refused again."""


class Session:
    """Tells the registry at *url* what *words* have, once it has welcomed us (`is_in`); *welcomed* is called then."""

    def __init__(
        self, url: str, words: Words, token: Optional[str], tls: Optional[ssl.SSLContext], welcomed: Callable[[], None]
    ) -> None:
        self._url, self._words, self._token, self._tls, self._welcomed = url, words, token, tls, welcomed
        self._socket: Optional[ClientConnection] = None
        self._saying: Optional[asyncio.Future[bool]] = None
        self._told_at = 0.0
        self._change_waits = False
        self.is_in = False
        self.marked = False

    async def run(self) -> None:
        """Until the connection ends. Raises what ended it; `code` and `said` read that."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else None
        context: Dict[str, Any] = {"ssl": self._tls} if self._tls is not None else {}
        async with connect(
            self._url, additional_headers=headers, compression=None, proxy=None, open_timeout=OPEN_WITHIN,
            close_timeout=OPEN_WITHIN, ping_interval=None, max_size=LARGEST, max_queue=4, **context,
        ) as socket:  # fmt: skip
            await socket.send(self._words.register())
            welcome = json.loads(await asyncio.wait_for(socket.recv(), OPEN_WITHIN))
            self._socket, self.is_in, self.marked = socket, True, bool(welcome.get("draining"))
            self._welcomed()
            beats = asyncio.ensure_future(self._beat(socket, welcome))
            try:
                async for message in socket:
                    self._heed(message)
            finally:
                self.is_in = False
                beats.cancel()
        raise ConnectionClosed(socket.protocol.close_rcvd, socket.protocol.close_sent)

    def changed(self) -> None:
        """A heartbeat soon: now, or as long after the last one as changes are apart."""
        if not self._change_waits and self.is_in:
            self._change_waits = True
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, self._told_at + CHANGES_APART - loop.time()), self._tell_change)

    def say_draining(self, answer: Callable[[bool], None]) -> None:
        """*answer* hears whether it was sent."""
        if not self.is_in:
            answer(False)
            return
        said = asyncio.ensure_future(self._send(self._words.draining()))
        said.add_done_callback(lambda task: answer(not task.cancelled() and task.result()))

    async def close(self, code: int, why: str) -> bool:
        """The close frame; whether the registry has answered it."""
        if not self.is_in or self._socket is None:
            return False
        try:
            if self._change_waits:
                await self._send(self._words.heartbeat())
            await self._socket.close(code, why)
        except (OSError, WebSocketException):
            return False
        return self._socket.protocol.close_rcvd is not None

    def abandon(self) -> None:
        """In a forked child: let go of our copy of the connection, and say nothing."""
        transport = self._socket.transport if self._socket is not None else None
        raw = transport.get_extra_info("socket") if transport is not None else None
        if raw is not None and raw.fileno() >= 0:
            # Replaced, not closed: the socket's own object would close the number again, when it is somebody else's.
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, raw.fileno(), inheritable=False)
            os.close(nothing)

    def _tell_change(self) -> None:
        self._change_waits, self._told_at = False, asyncio.get_running_loop().time()
        self._saying = asyncio.ensure_future(self._send(self._words.heartbeat()))

    async def _send(self, message: str) -> bool:
        try:
            assert self._socket is not None
            await self._socket.send(message)
        except WebSocketException:
            return False  # `run` learns it too
        return True

    def _heed(self, message: Any) -> None:
        try:
            kind = json.loads(message).get("type")
        except (ValueError, AttributeError):
            return  # what a newer registry says, and we do not know, is no reason to leave
        if kind in ("drain", "resume"):
            self.marked = kind == "drain"

    async def _beat(self, socket: ClientConnection, welcome: Dict[str, Any]) -> None:
        """
        A heartbeat each time it is due, and a ping whose answer tells that the registry is there: without one, a registry whose
        machine has gone would never be noticed.
        """
        every, patience = float(welcome.get("heartbeat_s") or BEAT), float(welcome.get("timeout_s") or 3 * BEAT)
        heard = time.monotonic()
        await asyncio.sleep(random.uniform(0, every))  # nodes that came together beat apart
        while True:
            answer = await self._ping(socket)
            if answer is None:
                return
            await asyncio.wait({answer}, timeout=every)
            if answer.done():
                heard = time.monotonic()
                await asyncio.sleep(every)
            elif time.monotonic() - heard > patience:
                log.warning("node %s: the registry %s is silent for %.0f s", self._words.node.id, self._url, patience)
                socket.transport.abort()
                return

    async def _ping(self, socket: ClientConnection) -> Optional["asyncio.Future[float]"]:
        """A heartbeat and a ping, whose answer is awaited elsewhere; None when the connection has ended."""
        try:
            await socket.send(self._words.heartbeat())
            return asyncio.ensure_future(await socket.ping())
        except WebSocketException:
            return None


def code(error: Optional[BaseException]) -> Optional[int]:
    """The code with which the registry has closed; None where it did not."""
    received = error.rcvd if isinstance(error, ConnectionClosed) else None
    return received.code if received is not None else None


def said(error: Optional[BaseException]) -> str:
    """Why we are not in, for people."""
    if isinstance(error, InvalidStatus) and error.response.status_code in (401, 403):
        return f"it refuses our token (HTTP {error.response.status_code}); set $DEPLOYER_REGISTRY_NODE_TOKEN, or token="
    if code(error) == REPLACED:
        return "another process has registered under this id, and has it until it goes"
    if code(error) in FAULTS:
        return f"it does not understand us: {error}"
    return f"{type(error).__name__}: {error}" if error is not None else "it closed the connection"
