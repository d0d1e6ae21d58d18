"""HAProxy's runtime socket: one command, one answer; and the two tables that tell how a backend stands."""

from __future__ import annotations

import csv
import io
import socket
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from deployer.errors import PoolError
from deployer.host import unix
from deployer.host.pools import address as address_of

_FORCED_MAINTENANCE, _FORCED_DRAIN = 0x01, 0x08
_REFUSALS = ("Permission denied", "Unknown command")
_HINT = "look at `socket` of the pool, and at `stats socket PATH mode 660 level admin` in haproxy.cfg"


class Server(NamedTuple):
    """A server of the backend: `state` is what somebody ordered, "ready", "drain" or "maint"."""

    name: str
    address: str
    port: int
    state: str


class Socket:
    """The socket at *place*, a path or "host:port". Every call raises PoolError when it does not answer within *timeout* s."""

    def __init__(self, place: str, timeout: float) -> None:
        self.place = place
        self._timeout = timeout

    def ask(self, command: str) -> str:
        """What HAProxy answers to *command*."""
        try:
            with self._connect() as link:
                link.sendall(f"{command}\n".encode())
                answer = b""
                while True:
                    part = link.recv(65536)
                    if not part:
                        break
                    answer += part
        except OSError as error:
            cause = f"{self.place}: {error.strerror or error}"
            raise PoolError("haproxy could not be asked", cause=cause, hint=_HINT) from error
        text = answer.decode("utf-8", "replace").strip()
        if text.startswith(_REFUSALS):
            hint = f"write level admin for this socket in haproxy.cfg; {_HINT}"
            raise PoolError("haproxy refuses us", cause=f"`{command}`: {text}", hint=hint)
        return text

    def order(self, command: str) -> None:
        """Do *command*, which answers nothing when it was done."""
        answer = self.ask(command)
        if answer:
            raise PoolError("haproxy refuses a change", cause=f"`{command}`: {answer}")

    def level(self) -> str:
        """What this socket may: "user", "operator" or "admin"."""
        return self.ask("show cli level")

    def servers(self, backend: str) -> Dict[str, Server]:
        """The servers of *backend* by name."""
        lines = self.ask(f"show servers state {backend}").splitlines()
        header = next((line[2:].split() for line in lines if line.startswith("# ")), None)
        if header is None:
            hint = "look at `backend` of the pool, and at the backend's name in haproxy.cfg"
            raise PoolError(f"haproxy has no backend {backend}", cause=" ".join(lines) or "no answer", hint=hint)
        rows = [
            line.split() for line in lines if line[:1].isdigit() and " " in line
        ]  # the first is the format's version
        servers = [_server({name: row[place] for place, name in enumerate(header)}) for row in rows]
        return {server.name: server for server in servers}

    def stat(self, backend: str, server: str) -> Dict[str, str]:
        """The row of *server* in `show stat`: status, scur, qcur and the like."""
        only_servers = 4
        text = self.ask(f"show stat {backend} {only_servers} -1").lstrip("# ")
        for row in csv.DictReader(io.StringIO(text)):
            if row.get("svname") == server:
                return row
        raise PoolError(f"haproxy has no server {backend}/{server}", cause=f"{self.place}: show stat")

    def _connect(self) -> socket.socket:
        if self.place.startswith("/"):
            return unix.connect(Path(self.place), self._timeout)
        return socket.create_connection(address_of.split(self.place), self._timeout)


def _server(row: Dict[str, str]) -> Server:
    ordered = int(row["srv_admin_state"])
    state = "maint" if ordered & _FORCED_MAINTENANCE else "drain" if ordered & _FORCED_DRAIN else "ready"
    return Server(row["srv_name"], row["srv_addr"], int(row["srv_port"]), state)


def find(servers: Dict[str, Server], address: str) -> Optional[Server]:
    """The server that sends to *address*, as its IP and port stand in the running haproxy."""
    host, port = address_of.split(address)
    ips: List[str] = [host, *address_of.resolve(host)]
    return next((one for one in servers.values() if one.port == port and one.address in ips), None)
