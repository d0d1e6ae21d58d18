"""A registry as those see it who ask it: nodes, marks, and the stream of events."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from deployer.errors import LinkError, PreflightError, UsageError

# As in rollout/asker.py: httpx's own command line would import rich and click.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402

TIMEOUT = 10.0
SILENT = 45.0
"""Seconds; a registry comments its stream every 15 s."""


class Asking:
    """
    The registry at *url*; use it in one thread.

    Every method raises LinkError when no registry answers there, PreflightError when it refuses the token.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url.rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise UsageError(f'"{url[:100]}" is no address of a registry', hint="--url http://127.0.0.1:7070")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # A transport of our own: the environment's proxy leads to no registry; SSL_CERT_FILE counts all the same.
        verify = self._url.startswith("https:")
        self._client = httpx.Client(headers=headers, timeout=TIMEOUT, transport=httpx.HTTPTransport(verify=verify))

    def nodes(self) -> list[dict[str, Any]]:
        found = self._ask("GET", "/nodes")
        if not isinstance(found, list):
            raise self._no_registry("what answers there is something else")
        return found

    def drain(self, node: str, by: str) -> dict[str, Any]:
        """Mark *node*; it is out of every pool when this returns. Returns the node; UsageError for an unknown one."""
        return self._node(node, "POST", {"by": by})

    def resume(self, node: str) -> dict[str, Any]:
        return self._node(node, "DELETE", None)

    def events(self) -> Iterator[tuple[str, Any]]:
        """Name and data of each event, a `snapshot` first; ends when the registry goes, or is silent for too long."""
        timeout = httpx.Timeout(TIMEOUT, read=SILENT)
        try:
            with self._client.stream("GET", f"{self._url}/events", timeout=timeout) as answer:
                if answer.status_code != 200:
                    answer.read()
                    self._checked(answer)
                yield from _events(answer.iter_lines())
        except httpx.RemoteProtocolError:
            return
        except httpx.HTTPError as error:
            raise self._no_registry(str(error)) from None

    def close(self) -> None:
        self._client.close()

    def _node(self, node: str, method: str, body: dict[str, Any] | None) -> dict[str, Any]:
        found = self._ask(method, f"/nodes/{_quoted(node)}/drain", body)
        if not isinstance(found, dict) or "status" not in found:
            raise self._no_registry("what answers there is something else")
        return found

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            return self._checked(self._client.request(method, self._url + path, json=body))
        except httpx.HTTPError as error:
            raise self._no_registry(str(error)) from None

    def _checked(self, answer: httpx.Response) -> Any:
        try:
            said = answer.json()
        except ValueError:
            raise self._no_registry(f"what answers there is something else (HTTP {answer.status_code})") from None
        if answer.is_success:
            return said
        why = said.get("error") if isinstance(said, dict) else None
        if answer.status_code in (401, 403):
            raise PreflightError(
                f"the registry at {self._url} refused us", cause=why,
                hint="set DEPLOYER_REGISTRY_ADMIN_TOKEN, or --admin-token-file FILE",
            )  # fmt: skip
        if answer.status_code == 404 and why:
            raise UsageError(str(why), hint="see `deployer registry nodes`")
        raise PreflightError(
            f"the registry at {self._url} answered {answer.status_code}", cause=why, state="nothing was changed"
        )

    def _no_registry(self, why: str) -> LinkError:
        return LinkError(
            f"no registry answers at {self._url}",
            cause=why,
            hint="start one with `deployer registry serve`, or give its --url",
        )


def _quoted(node: str) -> str:
    """*node* as a part of a path, also one that is called "..", which httpx would take for the way up."""
    return quote(node, safe="").replace(".", "%2E")


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    name, data = "message", ""
    for line in lines:
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line and data:
            yield name, json.loads(data)
            name, data = "message", ""
