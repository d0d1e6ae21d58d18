"""One WebSocket of an ASGI app: closed with 1001 (going away) when we leave, unless the app does so first."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Dict, Optional

from deployer.lifecycle.requests import REFUSED, RETRY_AFTER, Request, Requests
from deployer.lifecycle.web import Web

GOING_AWAY = 1001
SPREAD = 0.5
"""Share of the linger over which the goodbyes are spread: all clients come back, but not all in the same instant."""


class Talk:
    """The app's *receive* and *send*, with our goodbye between. After it, to receive is a disconnect, and to send an OSError."""

    def __init__(self, web: Web, scope: Dict[str, Any], receive: Any, send: Any, requests: Requests) -> None:
        self._web, self._scope, self._requests = web, scope, requests
        self._receive, self._send = receive, send
        self._accepted = self._closed = False
        self._held: Optional[Request] = None
        self._heard: Optional[asyncio.Future[Any]] = None

    async def run(self, app: Any) -> None:
        """Until *app* has returned; one that comes while we leave is refused, and *app* never hears of it."""
        self._left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._web.leaving:
            await self._refuse()
            return
        goodbye = asyncio.ensure_future(self._goodbye())
        try:
            await app(self._scope, self.receive, self.send)
        except OSError:
            if not self._left.done():
                raise
        finally:
            goodbye.cancel()
            if self._heard is not None:
                self._heard.cancel()
            if self._held is not None:
                self._held.end()

    def hold(self) -> None:
        """We leave, and not before this one has ended."""
        self._held = self._held or self._requests.hold("WebSocket")

    async def receive(self) -> Any:
        if self._heard is None:
            self._heard = asyncio.ensure_future(self._receive())
        await asyncio.wait({self._heard, self._left}, return_when=asyncio.FIRST_COMPLETED)
        if not self._heard.done():
            return {"type": "websocket.disconnect", "code": GOING_AWAY, "reason": "going away"}
        heard, self._heard = self._heard, None
        return heard.result()

    async def send(self, message: Any) -> None:
        if self._left.done():
            raise OSError("the WebSocket was closed (1001): this process is leaving")
        self._accepted = self._accepted or message["type"] == "websocket.accept"
        self._closed = self._closed or message["type"] in ("websocket.close", "websocket.http.response.start")
        await self._send(message)

    async def _goodbye(self) -> None:
        await self._web.told()
        await asyncio.sleep(self._web.linger * random.uniform(1, 1 + SPREAD))
        if not self._left.done():
            self._left.set_result(None)
        if not self._closed:
            await self._send({"type": "websocket.close", "code": GOING_AWAY, "reason": "going away"})

    async def _refuse(self) -> None:
        """503 in the place of the handshake, where the server can; else 403, which is all that a close means before it."""
        await self._receive()
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            await self._send({"type": "websocket.close", "code": GOING_AWAY})
            return
        headers = [(b"content-type", b"application/json"), (b"retry-after", RETRY_AFTER.encode())]
        await self._send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": REFUSED})
