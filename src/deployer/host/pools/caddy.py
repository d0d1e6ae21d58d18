"""Caddy by its admin API: the upstreams of one reverse_proxy, found by its @id."""

from __future__ import annotations

import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from deployer.errors import PoolError
from deployer.host.pools import address as address_of
from deployer.host.pools.base import POLL, UNTOUCHED, ByAddress, preflight
from deployer.host.pools.caddy_admin import ADMIN, Admin


class _Handler(NamedTuple):
    upstreams: Optional[List[Dict[str, Any]]]
    etag: Optional[str]


class Caddy(ByAddress):
    """
    Sends by the upstreams of the reverse_proxy `id`. Each change is a config load of caddy, which loses connections that wait in
    its TCP backlog and ends WebSockets: CaddyDirectory does without.

    Settings: `admin` (caddy's default), `id` (the app's name), `origin`, `timeout`.
    """

    def __init__(self, settings: Dict[str, Any], app: str) -> None:
        self._timeout = float(settings["timeout"])
        self._admin = Admin(settings.get("admin") or ADMIN, self._timeout, settings.get("origin"))
        self._id = str(settings.get("id") or app)

    def check(self, addresses: Sequence[str]) -> None:
        """The API answers us, and has a reverse_proxy of that id whose upstreams are written in its config."""
        try:
            self._handler()
            for address in addresses:
                address_of.split(address)
        except PoolError as error:
            raise preflight(error) from error

    def send_to(self, addresses: Sequence[str], leaving: Sequence[str] = ()) -> None:
        """One change for all; none where the upstreams are so already, since a config load is not free."""
        deadline = time.monotonic() + self._timeout
        while not self._changed(addresses, leaving):
            if time.monotonic() > deadline:  # another host's deploy came between our look and our change, each time
                raise PoolError(
                    "caddy's config does not hold still",
                    cause=f"somebody else changed it again and again for {self._timeout:g}s",
                    state=UNTOUCHED,
                )
            time.sleep(POLL)

    def in_flight(self, address: str) -> Optional[int]:
        """
        What caddy counts. It counts for upstreams that its config names, and forgets an address that leaves it: None then, unless
        another reverse_proxy, one that is never asked, names it too (deploy.example.toml has the lines).
        """
        try:
            return self._admin.requests().get(address)
        except PoolError:
            return None

    def _changed(self, addresses: Sequence[str], leaving: Sequence[str]) -> bool:
        """Whether the upstreams are as wanted now; False when the config changed under us."""
        handler = self._handler()
        wanted = _upstreams(handler.upstreams or [], addresses, leaving)
        if wanted == handler.upstreams:
            return True
        method = "PUT" if handler.upstreams is None else "PATCH"
        return self._admin.change(method, f"/id/{self._id}/upstreams", wanted, handler.etag)

    def _handler(self) -> _Handler:
        answer = self._admin.get(f"/id/{self._id}")
        found = answer.body
        if answer.status == 404:
            hint = f'add "@id": "{self._id}" to the reverse_proxy in caddy\'s JSON, or look at `id` of the pool'
            raise PoolError(f"caddy knows no object with id {self._id}", cause=_said(found), state=UNTOUCHED, hint=hint)
        if not isinstance(found, dict) or found.get("handler") != "reverse_proxy":
            kind = found.get("handler") if isinstance(found, dict) else type(found).__name__
            hint = 'give the @id to the object with "handler": "reverse_proxy"'
            raise PoolError(
                f"{self._id} is no reverse_proxy of caddy", cause=f"it is {kind}", state=UNTOUCHED, hint=hint
            )
        if "dynamic_upstreams" in found:
            cause, hint = (
                "it has dynamic_upstreams, beside which upstreams count for nothing",
                "remove dynamic_upstreams",
            )
            raise PoolError(f"{self._id} cannot be switched", cause=cause, state=UNTOUCHED, hint=hint)
        return _Handler(found.get("upstreams"), answer.etag)


def _upstreams(now: Sequence[Dict[str, Any]], addresses: Sequence[str], leaving: Sequence[str]) -> List[Dict[str, Any]]:
    """*now* with *addresses* instead of *leaving*: what joins takes the place, and the other keys, of one that leaves."""
    missing = [address for address in dict.fromkeys(addresses) if address not in [one.get("dial") for one in now]]
    wanted = []
    for one in now:
        dial = one.get("dial")
        if dial in addresses or dial not in leaving:
            wanted.append(one)
        elif missing:
            wanted.append({**one, "dial": missing.pop(0)})
    return wanted + [{"dial": address} for address in missing]


def _said(body: Any) -> str:
    return str(body.get("error")) if isinstance(body, dict) else str(body)
