"""An ASGI app that leaves well: /health, `Connection: close`, refusals as 503, WebSockets that are told to come back."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict, MutableMapping, Optional, Set

from deployer.lifecycle.health import body
from deployer.lifecycle.requests import REFUSED, RETRY_AFTER, Requests
from deployer.lifecycle.tasks import ShuttingDown
from deployer.lifecycle.web import Web
from deployer.lifecycle.websocket import Talk

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_CLOSE = (b"connection", b"close")


class Asgi:
    """*app* (None: nothing but /health); *requests* counts what it answers, *on_leaving* is told of its WebSockets."""

    def __init__(
        self, web: Web, on_leaving: Callable[[Callable[[], None]], None], app: Any, path: str, requests: Requests
    ) -> None:
        self._web, self._app, self._path, self._requests = web, app, path, requests
        self._talks: Set[Talk] = set()
        on_leaving(self._hold_talks)
        _refuse_within(app)

    async def __call__(self, scope: Dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif self._app is None:
            await _nothing(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Dict[str, Any], receive: Receive, send: Send) -> None:
        answer = _Answer(send, lambda: self._web.leaving and scope.get("http_version", "1.1") < "2")
        if scope["path"] == self._path and scope["method"] in ("GET", "HEAD"):
            code, document = self._web.health()
            await answer.whole(code, body(document), (b"cache-control", b"no-store"))
        elif self._app is None:
            await answer.whole(404, body({"error": f"GET {self._path}"}))
        else:
            await self._counted(scope, receive, answer)

    async def _counted(self, scope: Dict[str, Any], receive: Receive, answer: _Answer) -> None:
        request = self._requests.begin(scope["method"])
        try:
            with request:
                await self._app(scope, receive, answer.send)
        except ShuttingDown:
            if answer.started:
                raise
            await answer.whole(503, REFUSED, (b"retry-after", RETRY_AFTER.encode()), _CLOSE)
        finally:
            request.end()

    async def _websocket(self, scope: Dict[str, Any], receive: Receive, send: Send) -> None:
        talk = Talk(self._web, scope, receive, send, self._requests)
        self._talks.add(talk)
        try:
            await talk.run(self._app)
        finally:
            self._talks.discard(talk)

    def _hold_talks(self) -> None:
        for talk in list(self._talks):
            talk.hold()


class _Answer:
    """What is sent for one request; says `Connection: close` where *leaving* says so by the time it starts."""

    def __init__(self, send: Send, leaving: Callable[[], bool]) -> None:
        self._send, self._leaving = send, leaving
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            if self._leaving():
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() != b"connection"]
                message = {**message, "headers": [*kept, _CLOSE]}
        await self._send(message)

    async def whole(self, code: int, content: bytes, *headers: Any) -> None:
        size = (b"content-length", str(len(content)).encode())
        await self.send({"type": "http.response.start", "status": code, "headers": [_JSON, size, *headers]})
        await self.send({"type": "http.response.body", "body": content})


def _refuse_within(app: Any) -> None:
    """
    Starlette and FastAPI answer any error with a 500 before we hear of it: they are told what ShuttingDown means.

    An app that has a handler of its own for it keeps that.
    """
    handlers: Optional[Dict[Any, Any]] = getattr(app, "exception_handlers", None)
    if isinstance(handlers, dict) and ShuttingDown not in handlers and hasattr(app, "add_exception_handler"):
        app.add_exception_handler(ShuttingDown, _refused)


async def _refused(_request: Any, _error: Exception) -> Any:
    async def response(_scope: Any, _receive: Receive, send: Send) -> None:
        await _Answer(send, lambda: False).whole(503, REFUSED, (b"retry-after", RETRY_AFTER.encode()), _CLOSE)

    return response


async def _nothing(scope: Dict[str, Any], receive: Receive, send: Send) -> None:
    """There is no app: lifespans are fine, WebSockets are refused."""
    while scope["type"] == "lifespan":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
