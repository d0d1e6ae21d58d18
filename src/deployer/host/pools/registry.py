"""The node registry as a pool: the nodes of an instance get no new work before it is asked to stop, and are back after it."""

from __future__ import annotations

import time
from typing import Any, Dict, Iterator, List, Optional, Sequence

from deployer.errors import PoolError
from deployer.host.pools.base import UNTOUCHED, NotOnline, preflight
from deployer.host.pools.registry_http import NoAnswer, RegistryHttp

URL = "http://127.0.0.1:7070"
BY = "deployer push"
AGAIN = 0.2
"""Seconds between two looks for a registry that has gone while we waited for a node."""
Row = Dict[str, Any]


class Registry:
    """
    Its places are instances, not addresses: a node says which instance it is when it registers (NodeAgent does), so nobody
    needs to know the ids. `node` names one for apps that do not.

    Settings: `url`, `node` ({host} and {app} are filled in), `token_file` (the admin's), `timeout`.
    """

    by_address = False

    def __init__(self, settings: Dict[str, Any], app: str, host: str) -> None:
        self._timeout = float(settings["timeout"])
        self._http = RegistryHttp(settings.get("url") or URL, settings.get("token_file"), self._timeout)
        node = settings.get("node")
        self._seen: List[Row] = []
        self._node = node and str(node).replace("{host}", host.rpartition("@")[2]).replace("{app}", app)

    def check(self, places: Sequence[str]) -> None:
        """The registry answers and lets us look, which takes the same token as to drain."""
        try:
            self._nodes()
        except PoolError as error:
            raise preflight(error) from error

    def named(self, places: Sequence[str]) -> List[str]:
        """The ids of the nodes of *places*, as `send_to` has seen them; the place itself where it has none."""
        of = {place: [row["id"] for row in self._of(self._seen, place)] for place in places}
        return list(dict.fromkeys(name for place in places for name in of[place] or [place]))

    def send_to(self, places: Sequence[str], leaving: Sequence[str] = ()) -> None:
        """Who joins is waited for until the registry has it online; then the nodes of *leaving* are marked."""
        for place in places:
            self._await_online(place)
        rows = self._seen = self._nodes()
        stays = {row["instance"] for place in places for row in self._of(rows, place)}
        for row in (row for place in leaving for row in self._of(rows, place)):
            if row["status"] == "online" and row["instance"] not in stays:
                # Of the process alone: should nobody be left to take the mark away, the next process takes work again.
                self._http.ask("POST", self._path(row, "drain"), {"by": BY, "scope": "process"})

    def in_flight(self, place: str) -> Optional[int]:
        """
        None: the process finishes what it has, and is waited for by its drain, up to the ceiling. What a dispatcher had just sent
        arrives while two looks at this go by.
        """
        return None

    def _nodes(self) -> List[Row]:
        found = self._http.ask("GET", "/nodes")
        if not isinstance(found, list):
            raise PoolError(
                "this is no node registry", cause=f"{self._http.url}/nodes: {str(found)[:200]}", state=UNTOUCHED
            )
        return [row for row in found if isinstance(row, dict) and isinstance(row.get("id"), str)]

    def _of(self, rows: Sequence[Row], place: str) -> List[Row]:
        """The nodes that *place*, an instance, has registered. By `node`, which has one process at a time, any of that id."""
        own = [row for row in rows if str(row.get("instance") or "").partition(":")[0] == place]
        return own or [row for row in rows if self._node and row["id"] == self._node and not _of_ours(row)]

    def _path(self, row: Row, what: str) -> str:
        from urllib.parse import quote

        return f"/nodes/{quote(row['id'], safe='')}/{what}"

    def _await_online(self, place: str) -> None:
        """The nodes of *place* take work, as far as that is for us to say: a mark of somebody else stays."""
        deadline = time.monotonic() + self._timeout
        last: List[Row] = []
        for rows in self._told(deadline):
            last = [row for row in self._of(rows, place) if row["status"] != "offline"]
            ours = [row for row in last if (row.get("drain") or {}).get("by") == BY]
            for row in ours:
                self._http.ask("POST", self._path(row, "resume"), {"by": BY})
            if last and not ours and all(row["status"] == "online" or row.get("drain") for row in last):
                return
        raise NotOnline(
            f"no node of this instance is online in the registry within {self._timeout:g}s",
            cause=f"{self._http.url} has {_listed(last) or f'none of instance {place}'}",
            hint="see the app's log: does its NodeAgent reach the registry? `node` in the pool finds an app that registers by hand",
        )

    def _told(self, deadline: float) -> Iterator[List[Row]]:
        """
        All nodes, as the registry tells them: at once, and after each change until *deadline*. A registry that restarts loses
        every node for a moment, and is followed into its next life.
        """
        while True:
            try:
                yield from self._followed(deadline)
            except NoAnswer:
                if time.monotonic() + AGAIN >= deadline:
                    raise
            if time.monotonic() >= deadline:
                return
            time.sleep(AGAIN)

    def _followed(self, deadline: float) -> Iterator[List[Row]]:
        known: Dict[str, Row] = {}
        for kind, data in self._http.events(deadline):
            rows = data.get("nodes") if kind == "snapshot" else [data.get("node", data)]
            for row in rows if isinstance(rows, list) else []:
                if isinstance(row, dict) and isinstance(row.get("id"), str):
                    known[row["id"]] = row
            yield list(known.values())


def _of_ours(row: Row) -> bool:
    return ":" in str(row.get("instance") or "")


def _listed(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['id']} ({row['status']})" for row in rows)
