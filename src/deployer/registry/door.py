"""The first room of every connection: HTTP, read by h11, until it turns out to be a node or a reader of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11
from websockets.datastructures import Headers
from websockets.http11 import Request as Handshake

from deployer.registry.exchange import Answer, Request, request_of
from deployer.registry.node_link import NodeLink
from deployer.registry.reading import EventReader

if TYPE_CHECKING:
    from deployer.registry.server import Registry

HEAD = 16 * 1024
BODY = 64 * 1024


class Door(asyncio.BufferedProtocol):
    """
    Serves one request after the other, and lets others be served in between; a slow sender is cut off.

    Nothing is read or answered while the other side does not read.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._busy: asyncio.Task[None] | None = None
        self._pieces: Iterator[bytes] | None = None
        self._refused = self._idle = self._full = self._left = False
        self._timer: asyncio.TimerHandle | None = None

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._registry.doors.add(self)
        self._wait(self._registry.settings.register_within)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._registry.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._refused:
            return
        if self._idle:
            self._idle = False
            self._wait(self._registry.settings.register_within)
        self._http.receive_data(bytes(self._registry.buffer[:nbytes]))
        self._work()

    def eof_received(self) -> bool:
        if self._refused:
            return False
        self._http.receive_data(b"")
        self._work()
        return self._waits  # whoever has said all may still wait for the answer

    def pause_writing(self) -> None:
        self._full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.left()

    def left(self) -> None:
        """Nothing of this connection concerns us any more."""
        self._left = True
        self._registry.doors.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        self._transport.close()

    # Inside

    @property
    def _waits(self) -> bool:
        """Whether an answer is not whole yet."""
        return self._busy is not None or self._pieces is not None

    def _wait(self, seconds: float) -> None:
        """From here on the other side has so much time for what it is to do."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._registry.later(seconds, self._transport.abort)

    def _soon(self) -> None:
        self._registry.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._left or self._full or self._refused or self._transport.is_closing():
            return
        if self._pieces is not None:
            self._one_more_piece()
        else:
            self._work()

    def _work(self) -> None:
        """Read on until there is a request to be answered, or nothing more to read."""
        try:
            while not (self._waits or self._full or self._refused or self._left or self._transport.is_closing()):
                if not self._next():
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))

    def _next(self) -> bool:
        """Whether there may be more to do at once."""
        event = self._http.next_event()
        if isinstance(event, h11.Request):
            self._head, self._body = event, bytearray()
            if self._http.they_are_waiting_for_100_continue:
                self._send(h11.InformationalResponse(status_code=100, headers=[]))
            return True
        if isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > BODY:
                self._refuse(413, f"a body may have {BODY} bytes")
            return True
        if isinstance(event, h11.EndOfMessage):
            self._serve()
        elif isinstance(event, h11.ConnectionClosed):
            self._transport.close()
        return False

    def _serve(self) -> None:
        assert self._head is not None
        request = request_of(self._head, bytes(self._body))
        refusal = self._registry.api.refusal(request)
        if refusal is not None:
            self._answer(refusal, request)
        elif request.is_websocket and not request.path:
            self._to_node(request)
        elif request.method in ("GET", "HEAD"):
            self._answer(self._registry.api.read(request), request)
        else:
            self._transport.pause_reading()
            self._busy = self._registry.loop.create_task(self._change(request))

    async def _change(self, request: Request) -> None:
        try:
            answer = await self._registry.api.change(request)
        except Exception as error:
            self._registry.say(
                "registry.trouble", {"what": "a request failed", "why": f"{type(error).__name__}: {error}"}
            )
            answer = Answer(500, {"error": "this is a bug in the registry; its log says more"})
        finally:
            self._busy = None
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._answer(answer, request)

    def _to_node(self, request: Request) -> None:
        assert self._head is not None
        path = self._head.target.decode("ascii", "replace")
        headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._head.headers)
        more, _ = self._http.trailing_data
        link = NodeLink(self._registry, self._transport, self._registry.number())
        self.left()
        self._registry.links[link.number] = link
        self._transport.set_protocol(link)
        link.open(Handshake(path, headers), more)

    def _to_reader(self, request: Request) -> None:
        reader = EventReader(self._registry, self._transport, self._http)
        self.left()
        self._transport.set_protocol(reader)
        reader.open(request.headers.get("last-event-id", ""))

    def _answer(self, answer: Answer, request: Request) -> None:
        self._registry.count_answer(answer.status)
        streamed = answer.reading or answer.pieces is not None
        content = b"" if streamed else answer.content()
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **answer.headers}
        headers |= {} if streamed else {"Content-Length": str(len(content))}
        reason = HTTPStatus(answer.status).phrase
        self._send(h11.Response(status_code=answer.status, headers=list(headers.items()), reason=reason.encode()))
        if request.method == "HEAD":
            self._end_of_answer()
        elif answer.reading:
            self._to_reader(request)
        elif answer.pieces is not None:
            self._pieces = answer.pieces
            self._wait(self._registry.settings.idle)
            self._soon()
        else:
            self._send(h11.Data(data=content))
            self._end_of_answer()

    def _one_more_piece(self) -> None:
        assert self._pieces is not None
        piece = next(self._pieces, None)
        if piece is not None:
            self._send(h11.Data(data=piece))
            if not self._full:
                self._soon()
            return
        self._pieces = None
        self._end_of_answer()

    def _end_of_answer(self) -> None:
        self._send(h11.EndOfMessage())
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._transport.close()
            return
        self._http.start_next_cycle()
        self._idle = True
        self._wait(self._registry.settings.idle)
        if any(self._http.trailing_data):
            self._soon()  # the next request or the end is here already, but it is others' turn first

    def _refuse(self, status: int, why: str) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            document = json.dumps({"error": why}).encode()
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(document))),
                ("Connection", "close"),
            ]
            self._send(h11.Response(status_code=status, headers=headers))
            self._send(h11.Data(data=document))
            self._send(h11.EndOfMessage())
        self._linger()

    def _linger(self) -> None:
        """Close once the other side has stopped talking: a reset, for bytes that we left unread, might overtake our answer."""
        self._refused = True
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._wait(self._registry.settings.close_within)

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._transport.write(data)
