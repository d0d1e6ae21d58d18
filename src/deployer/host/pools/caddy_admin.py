"""Caddy's admin API: over TCP or a unix socket, with the headers that it wants to see before it obeys."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from deployer.errors import PoolError
from deployer.host import unix
from deployer.host.pools.address import split
from deployer.host.pools.http_exchange import exchange

ADMIN = "127.0.0.1:2019"
_UNIX = "unix/"
_SHOWN = 500


class Answer(NamedTuple):
    """What the API answered; `etag` names the state of the config that it was read from."""

    status: int
    body: Any
    etag: Optional[str]


class Admin:
    """
    The API at *place*: "host:port" or "unix//path". *origin* is what stands in caddy's `admin.origins`, where something does.

    Every call raises PoolError when it does not answer within *timeout* seconds.
    """

    def __init__(self, place: str, timeout: float, origin: Optional[str] = None) -> None:
        self.place = place
        self._timeout = timeout
        self._origin = origin

    def get(self, path: str) -> Answer:
        """What stands at *path*. Raises PoolError when it is refused; 404 is an answer."""
        answer = self._ask("GET", path, None, {})
        if answer.status not in (200, 404):
            raise self._refusal("GET", path, answer)
        return answer

    def change(self, method: str, path: str, value: Any, etag: Optional[str]) -> bool:
        """Put *value* at *path*; False when the config is no longer the one that *etag* names. Raises PoolError when refused."""
        headers = {"Content-Type": "application/json"}
        if etag:
            headers["If-Match"] = etag
        answer = self._ask(method, path, json.dumps(value).encode(), headers)
        if answer.status == 412:
            return False
        if answer.status != 200:
            raise self._refusal(method, path, answer)
        return True

    def requests(self) -> Dict[str, int]:
        """Requests at each upstream that the running config names."""
        rows: List[Dict[str, Any]] = self.get("/reverse_proxy/upstreams").body or []
        return {str(row["address"]): int(row["num_requests"]) for row in rows}

    def _ask(self, method: str, path: str, body: Optional[bytes], headers: Dict[str, str]) -> Answer:
        try:
            with self._connect() as link:
                reply = exchange(link, method, path, {**self._who(), **headers}, body or b"")
        except OSError as error:
            hint = 'look at `admin` of the pool; caddy\'s default is "127.0.0.1:2019"'
            cause = f"{self.place}: {error.strerror or error}"
            raise PoolError("caddy's admin API could not be asked", cause=cause, hint=hint) from error
        return Answer(reply.status, _json(reply.body), reply.fields.get("etag"))

    def _who(self) -> Dict[str, str]:
        if self._origin:
            name = self._origin.partition("://")[2] or self._origin
            return {"Host": name, "Origin": self._origin if "://" in self._origin else f"http://{name}"}
        # On a unix socket caddy takes no name but the empty one; elsewhere its own address.
        name = "" if self.place.startswith(_UNIX) else self.place
        return {"Host": name, "Origin": f"http://{name}"}

    def _connect(self) -> socket.socket:
        if self.place.startswith(_UNIX):
            return unix.connect(Path(os.path.expanduser(self.place[len(_UNIX) :])), self._timeout)
        return socket.create_connection(split(self.place), self._timeout)

    def _refusal(self, method: str, path: str, answer: Answer) -> PoolError:
        why = answer.body.get("error") if isinstance(answer.body, dict) else answer.body
        hint = None
        if answer.status == 403:
            hint = 'write in the pool what stands in caddy\'s `admin.origins`: origin = "deployer"'
        cause = f"{method} {path} answered {answer.status}: {str(why)[:_SHOWN]}"
        return PoolError("caddy refuses us", cause=cause, hint=hint)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text) if text.strip() else None
    except ValueError:
        return text.decode("utf-8", "replace").strip()
