"""What is asked over HTTP, and by whom."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from deployer.registry import messages
from deployer.registry.exchange import Answer, Request
from deployer.registry.listing import listed
from deployer.registry.marks import NotWritten
from deployer.registry.metrics import CONTENT_TYPE
from deployer.registry.node import NODE, PROCESS

if TYPE_CHECKING:
    from deployer.registry.server import Registry

_UNAUTHORIZED = {"WWW-Authenticate": "Bearer"}
_STREAM = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}


class Api:
    """Routes and their answers. Reading is immediate, changing waits for the disk."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def refusal(self, request: Request) -> Answer | None:
        """Why *request* is not served, if it is not."""
        tokens, given = self._registry.settings.tokens, request.headers.get("authorization")
        if request.path == ("health",):
            return None
        if _for_nodes(request):
            admitted, guarded = tokens.admits_node(given), tokens.admin is not None or tokens.node is not None
        else:
            admitted, guarded = tokens.admits_admin(given), tokens.admin is not None
        if not admitted:
            return Answer(401, {"error": "a token is needed: Authorization: Bearer …"}, headers=_UNAUTHORIZED)
        return None if guarded else self._stranger(request)

    def _stranger(self, request: Request) -> Answer | None:
        """Without a token, a web page in somebody's browser must not get in: neither by itself nor by a name that it owns."""
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            return Answer(403, {"error": f"this registry is not called {messages.plain(host)}"})
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return Answer(403, {"error": "requests of web pages are refused"})
        return None

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        if name in ("localhost", self._registry.settings.host):
            return True
        try:
            ipaddress.ip_address(name)
            return True  # nobody can own a number as they own a name
        except ValueError:
            return False

    def read(self, request: Request) -> Answer:
        registry = self._registry
        match request.path:
            case ("health",):
                return Answer(200, registry.health())
            case ("nodes",):
                return Answer(200, pieces=listed(registry.documents()))
            case ("nodes", id):
                node = registry.nodes.node(id)
                return Answer(200, node.to_json()) if node else _unknown(id)
            case ("pools",):
                return Answer(
                    200, [{"pool": pool, "nodes": registry.nodes.pool(pool)} for pool in registry.nodes.pools()]
                )
            case ("pools", pool):
                return Answer(200, {"pool": pool, "nodes": registry.nodes.pool(pool)})
            case ("events",):
                return Answer(200, headers=_STREAM, reading=True)
            case ("metrics",):
                return Answer(200, text=registry.metrics(), headers={"Content-Type": CONTENT_TYPE})
            case ():
                return Answer(426, {"error": "nodes connect here by WebSocket"}, headers={"Upgrade": "websocket"})
            case ("nodes", _, "drain" | "resume"):
                return Answer(405, {"error": f"{request.method} is not for this"}, headers={"Allow": "POST, DELETE"})
        return Answer(404, {"error": "no such thing here; there are /nodes, /pools, /events, /health, /metrics"})

    async def change(self, request: Request) -> Answer:
        try:
            match (request.method, *request.path):
                case ("POST", "nodes", id, "drain"):
                    return await self._drain(id, request)
                case ("DELETE", "nodes", id, "drain") | ("POST", "nodes", id, "resume"):
                    return await self._resume(id)
        except NotWritten as error:
            return Answer(503, {"error": f"nothing was changed: {error}"}, headers={"Retry-After": "1"})
        known = self.read(request).status != 404
        return Answer(
            405 if known else 404, {"error": f"{request.method} is not for this"}, headers={"Allow": "GET, HEAD"}
        )

    async def _drain(self, id: str, request: Request) -> Answer:
        if id not in self._registry.nodes:
            return _unknown(id)
        try:
            asked = messages.read(request.body) if request.body else {}
        except messages.Malformed as error:
            return Answer(400, {"error": f"the body is {error}"})
        scope = asked.get("scope", NODE)
        if scope not in (NODE, PROCESS):
            return Answer(400, {"error": f'"scope" is "{NODE}" or "{PROCESS}"'})
        return self._node(id, await self._registry.mark(id, messages.plain(asked.get("by")) or "an admin", scope))

    async def _resume(self, id: str) -> Answer:
        if id not in self._registry.nodes:
            return _unknown(id)
        return self._node(id, await self._registry.unmark(id))

    def _node(self, id: str, known: bool) -> Answer:
        node = self._registry.nodes.node(id)
        return Answer(200, node.to_json()) if known and node else _unknown(id)


def _for_nodes(request: Request) -> bool:
    """Whether it asks for the WebSocket, which is all that a node's token opens. Exactly what the door takes for one."""
    return not request.path and request.headers.get("upgrade", "").lower() == "websocket"


def _unknown(id: str) -> Answer:
    return Answer(404, {"error": f"no node {messages.plain(id)} has registered here"})


def _name(host: str) -> str:
    """The name in a Host header, without the port and the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
