"""HTTP and events of a node registry, for the pool that is one."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, Tuple
from urllib.parse import urlsplit

from deployer.errors import PoolError
from deployer.host.pools.base import UNTOUCHED

if TYPE_CHECKING:
    import http.client

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of one answer: ten thousand busy nodes are some 10 MB."""
_HINT = "is `deployer registry serve` running there? `url` in the pool of this target says where it is looked for"


class NoAnswer(PoolError):
    """Nobody is there, or has gone in the middle of an answer: a registry that restarts is back in a moment."""


class RegistryHttp:
    """The registry at *url*. Every call raises PoolError when it is refused; NoAnswer, which is one, after *timeout* seconds."""

    def __init__(self, url: str, token_file: Optional[str], timeout: float) -> None:
        self.url = url.rstrip("/")
        self._token_file = token_file and os.path.expanduser(token_file)
        self._timeout = timeout

    def ask(self, method: str, path: str, body: Optional[Dict[str, Any]] = None) -> Any:
        """The JSON that *path* answers."""
        import http.client

        response = self._request(method, path, body, self._timeout)
        try:
            data = response.read(BODY_LIMIT)
            found = json.loads(data) if data else None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._trouble(method, path, error) from error
        finally:
            response.close()
        if response.status >= 300:
            raise self._refusal(method, path, response.status, found)
        return found

    def events(self, deadline: float) -> Iterator[Tuple[str, Dict[str, Any]]]:
        """
        What `GET /events` tells, (event, data), until *deadline* (monotonic seconds) or until the registry ends it. Its first
        event is a snapshot.
        """
        import http.client

        left = max(0.01, deadline - time.monotonic())
        response = self._request("GET", "/events", None, left)
        try:
            if response.status != 200:
                raise self._refusal("GET", "/events", response.status, None)
            yield from self._events(response, deadline)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._trouble("GET", "/events", error) from error
        finally:
            response.close()

    def _events(self, response: "http.client.HTTPResponse", deadline: float) -> Iterator[Tuple[str, Dict[str, Any]]]:
        kind, data = "", ""
        while time.monotonic() < deadline:
            try:
                read = response.readline()
            except socket.timeout:  # before 3.10 no TimeoutError
                return
            if not read:  # it has gone; asked again, a stream that has ended gives nothing at once, and for ever
                return
            line = read.decode("utf-8", "replace").rstrip("\r\n")
            if not line and data:
                found = json.loads(data)
                yield kind, found if isinstance(found, dict) else {"nodes": found}
                kind, data = "", ""
            elif line.startswith("event:"):
                kind = line[6:].strip()
            elif line.startswith("data:"):
                data += line[5:].strip()

    def _request(
        self, method: str, path: str, body: Optional[Dict[str, Any]], timeout: float
    ) -> "http.client.HTTPResponse":
        import http.client  # 30 ms, and only a pool that is a registry needs it

        parts = urlsplit(self.url)
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        try:
            connection = make(parts.hostname or "", parts.port, timeout=timeout)
            payload = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, payload, self._headers())
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._trouble(method, path, error) from error

    def _headers(self) -> Dict[str, str]:
        headers = {
            "Accept": "application/json, text/event-stream",
            "Connection": "close",
            "Content-Type": "application/json",
        }
        if not self._token_file:
            return headers
        try:
            with open(self._token_file, encoding="utf-8") as file:
                return {**headers, "Authorization": f"Bearer {file.read().strip()}"}
        except (OSError, ValueError) as error:
            hint = "give the login user a file that holds the admin's token of the registry, mode 0600"
            raise PoolError(
                f"{self._token_file} could not be read", cause=str(error), state=UNTOUCHED, hint=hint
            ) from error

    def _trouble(self, method: str, path: str, error: Exception) -> NoAnswer:
        return NoAnswer(
            f"the node registry {self.url} does not answer",
            cause=f"{method} {path}: {error}",
            state=UNTOUCHED,
            hint=_HINT,
        )

    def _refusal(self, method: str, path: str, status: int, said: Any) -> PoolError:
        words = said.get("error", said) if isinstance(said, dict) else said
        hint = (
            _HINT
            if status not in (401, 403)
            else "write token_file in the pool: a file on the host with the admin's token"
        )
        return PoolError(
            f"the node registry {self.url} refuses",
            cause=f"{method} {path}: HTTP {status} {words or ''}".strip(),
            hint=hint,
        )
