"""
The connection of one node: frames in, messages out. `websockets` does the framing, without I/O of its own.

No task, no queue and no stream for a connection: what one costs while it is idle is this object and the parser's.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from deployer.registry import messages
from deployer.registry.messages import Malformed

if TYPE_CHECKING:
    from deployer.registry.server import Registry

RESTART, REPLACED, MALFORMED, SILENT, FLOOD = 1012, 4000, 4002, 4003, 1008
UNREAD = 256 * 1024
"""Bytes that a node may leave unread before it is cut off."""

# The library tells each connection to the log; what happened is told by our own events.
_quiet = logging.Logger("deployer.registry", level=logging.CRITICAL)


class NodeLink(asyncio.BufferedProtocol):
    """Registers its node with *registry* and tells it everything that happens, the end first of all."""

    __slots__ = (
        "_allowance",
        "_allowed_at",
        "_parts",
        "_registry",
        "_timer",
        "_told",
        "_transport",
        "_ws",
        "number",
        "registered",
    )

    def __init__(self, registry: Registry, transport: asyncio.Transport, number: int) -> None:
        self._registry = registry
        self._transport = transport
        self._ws = ServerProtocol(
            state=State.OPEN, max_size=messages.LARGEST, logger=_quiet
        )  # h11 has read the request
        self._parts: bytearray | None = None
        self._allowance = registry.settings.at_once
        self._allowed_at = registry.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._told = False  # to go: whatever it says from then on, but for its goodbye, counts for nothing
        self.number = number
        self.registered = False

    def open(self, request: Request, more: bytes) -> None:
        """Answer the handshake; *more* is what came with it."""
        response = self._ws.accept(request)
        self._transport.write(response.serialize())
        if response.status_code != 101:
            self._transport.close()
            return
        self._timer = self._registry.later(self._registry.settings.register_within, self._too_late)
        if more:
            self._take(more)

    # What the transport calls

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._registry.node_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._take(self._registry.node_buffer[:nbytes])

    def eof_received(self) -> None:
        self._gone("lost: connection broken")

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone("lost: connection broken")
        self._stop_timer()
        # The parser and its generator hold each other; without this only the garbage collector would part them.
        self._ws.parser.close()
        self._registry.closed(self)

    # What the registry calls

    @property
    def address(self) -> str:
        host, port = (self._transport.get_extra_info("peername") or ("?", 0))[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def send(self, message: dict[str, Any]) -> None:
        if self._ws.state is State.OPEN:
            self._ws.send_text(json.dumps(message, separators=(",", ":")).encode())
            self._flush()

    def close(self, code: int, reason: str) -> None:
        """Say goodbye; whoever does not answer is cut off."""
        self._told = True
        if self._ws.state is not State.OPEN:
            self._transport.abort()
            return
        self._ws.send_close(code, reason.encode()[:120].decode(errors="ignore"))
        self._flush()
        self._stop_timer()
        self._timer = self._registry.later(self._registry.settings.close_within, self._transport.abort)

    def end(self, code: int, why: str) -> None:
        """The node is offline for want of a heartbeat; should it still be there, it hears why."""
        self._gone(f"timeout: {why}")
        self.close(code, why)

    def abort(self) -> None:
        self._transport.abort()

    # Inside

    def _take(self, data: bytes | memoryview) -> None:
        ws = self._ws
        if ws.state is State.CLOSED or self._transport.is_closing():
            return
        ws.receive_data(data)  # type: ignore[arg-type]
        for event in ws.events_received():
            self._frame(event)  # type: ignore[arg-type]
        if ws.parser_exc is not None:
            self._registry.count("malformed")
            self._gone(f"lost: {messages.plain(ws.parser_exc)}")
        self._flush()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._said_goodbye()
        elif self._told:
            return
        elif not self._affords():
            self._registry.count("flood")
            self._refuse(FLOOD, "too many messages")
            self._transport.pause_reading()  # it may go on talking for the second in which it may say goodbye
        elif frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._text(frame)
        elif frame.opcode is Opcode.BINARY:
            self._refuse(MALFORMED, "text messages only")

    def _text(self, frame: Frame) -> None:
        if frame.fin and self._parts is None:
            self._message(frame.data)
            return
        self._parts = self._parts or bytearray()
        self._parts += frame.data
        if frame.fin:
            whole, self._parts = self._parts, None
            self._message(whole)

    def _message(self, text: bytes | bytearray | memoryview) -> None:
        try:
            message = messages.read(bytes(text))
            if self.registered:
                self._registry.said(self, message)
            else:
                self._register(message)
        except Malformed as error:
            self._registry.count("malformed")
            self._refuse(MALFORMED, str(error))

    def _register(self, message: dict[str, Any]) -> None:
        id, process = messages.registration(message)
        self._stop_timer()
        self.registered = True
        self._registry.registered(self, id, process)

    def _affords(self) -> bool:
        """Whether one more frame is within what a node may send."""
        limits, now = self._registry.settings, self._registry.loop.time()
        grown = self._allowance + (now - self._allowed_at) * limits.per_second
        self._allowance, self._allowed_at = min(limits.at_once, grown) - 1, now
        return self._allowance >= 0

    def _said_goodbye(self) -> None:
        close = self._ws.close_rcvd
        code, said = (close.code, messages.plain(close.reason)) if close else (1005, "")
        self._gone(f"clean: {said or 'stopped'}" if code in (1000, 1001, 1005) else f"clean: {code} {said}".rstrip())

    def _refuse(self, code: int, why: str) -> None:
        self._gone(f"lost: {why}")
        self.close(code, why)

    def _too_late(self) -> None:
        self._refuse(MALFORMED, "no register message in time")

    def _gone(self, reason: str) -> None:
        if self.registered:
            self.registered = False
            self._registry.gone(self, reason)

    def _flush(self) -> None:
        pieces = self._ws.data_to_send()
        if pieces:
            self._transport.write(b"".join(pieces))
            if not pieces[-1]:  # the library's word for the end
                self._transport.close()
            elif self._transport.get_write_buffer_size() > UNREAD:
                self._gone("lost: it does not read")
                self._transport.abort()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
