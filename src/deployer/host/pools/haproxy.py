"""HAProxy: told at its runtime socket, without a reload; clients keep their connections."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from deployer.errors import PoolError, PreflightError
from deployer.host.pools import address as address_of
from deployer.host.pools import files
from deployer.host.pools.base import POLL, UNTOUCHED, ByAddress, preflight
from deployer.host.pools.haproxy_socket import Server, Socket, find

SOCKET = "/run/haproxy/admin.sock"
_READY = ("UP", "no check")


class HAProxy(ByAddress):
    """
    Sends by the servers of `backend`: "ready" ones take requests, one that leaves only finishes what it has.

    Settings: `socket` (Debian's), `backend` (the app's name), `servers` (address → name, for slots whose address is ours to
    set), `leave` ("drain" or "maint"), `state_file`, `timeout`.
    """

    def __init__(self, settings: Dict[str, Any], app: str) -> None:
        self._timeout = float(settings["timeout"])
        self._socket = Socket(os.path.expanduser(settings.get("socket") or SOCKET), self._timeout)
        self._backend = str(settings.get("backend") or app)
        self._named: Dict[str, str] = dict(settings.get("servers") or {})
        self._leave = settings.get("leave") or "drain"
        self._state_file = Path(os.path.expanduser(settings["state_file"])) if settings.get("state_file") else None

    def check(self, addresses: Sequence[str]) -> None:
        """The socket answers and has level admin; the backend has a server for each of *addresses*."""
        try:
            self._require_admin()
            servers = self._socket.servers(self._backend)
            for address in addresses:
                self._server(servers, address)
        except PoolError as error:
            raise preflight(error) from error
        directory = self._state_file and self._state_file.parent
        if directory and not os.access(directory, os.W_OK | os.X_OK):
            raise PreflightError(
                f"{self._state_file} cannot be written",
                cause=f"{directory} is not a directory that this user may write to",
                state=UNTOUCHED,
                hint="give the login user that directory, or remove state_file: a reload of haproxy then forgets the switch",
            )

    def send_to(self, addresses: Sequence[str], leaving: Sequence[str] = ()) -> None:
        """Who joins is waited for until haproxy's own check finds it up; only then does the other one leave."""
        servers = self._socket.servers(self._backend)
        joining = [(address, self._server(servers, address)) for address in addresses]
        serving = {server.name for _, server in joining}
        # Found by its address and not by its name: a slot may long have been given another one. What nobody sends to has left.
        sending = [find(servers, address) for address in leaving]
        going = [server for server in sending if server is not None and server.name not in serving]
        touched: List[Server] = []
        try:
            for address, server in joining:
                touched.append(server)
                self._join(address, server)
            for _, server in joining:
                self._await_up(server)
            for server in going:
                touched.append(server)
                self._order(server.name, f"state {self._leave}")
            self._write_state()
        except BaseException:
            self._take_back(touched)
            raise

    def in_flight(self, address: str) -> Optional[int]:
        """Requests at the server and in its queue, as haproxy counts them. None when it cannot be asked or knows no such server."""
        try:
            server = find(self._socket.servers(self._backend), address)
            if server is None:
                return None
            row = self._socket.stat(self._backend, server.name)
            return int(row["scur"] or 0) + int(row["qcur"] or 0)
        except (PoolError, KeyError, ValueError):
            return None

    def _require_admin(self) -> None:
        level = self._socket.level()
        if level != "admin":
            raise PoolError(
                f"haproxy's socket lets us only look: level {level}",
                cause=self._socket.place,
                hint="write `level admin` behind this `stats socket` in haproxy.cfg, and reload haproxy",
            )

    def _server(self, servers: Dict[str, Server], address: str) -> Server:
        """The server for *address*: by its name in `servers`, else by its address. Raises PoolError when there is none."""
        name = self._named.get(address)
        found = servers.get(name) if name else find(servers, address)
        if found is None:
            there = ", ".join(f"{one.name} ({one.address}:{one.port})" for one in servers.values())
            raise PoolError(
                f"haproxy's backend {self._backend} has no server for {name or address}",
                cause=f"it has {there or 'no servers'}",
                state=UNTOUCHED,
                hint=f"add `server NAME {address} check` to it in haproxy.cfg, or name a server in `servers` of the pool",
            )
        return found

    def _join(self, address: str, server: Server) -> None:
        host, port = address_of.split(address)
        if server.port != port or server.address not in (host, *address_of.resolve(host)):
            self._readdress(server, host, port)
        self._order(server.name, "state ready")

    def _readdress(self, server: Server, host: str, port: int) -> None:
        ip = host if host.replace(".", "").isdigit() or ":" in host else next(iter(address_of.resolve(host)), host)
        command = f"set server {self._backend}/{server.name} addr {ip} port {port}"
        answer = self._socket.ask(command)  # it tells what it changed
        if not answer.startswith(("IP changed", "port changed", "no need to change")):
            raise PoolError("haproxy refuses a change", cause=f"`{command}`: {answer}")

    def _await_up(self, server: Server) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            row = self._socket.stat(self._backend, server.name)
            if row.get("status", "").startswith(_READY):
                return
            if time.monotonic() > deadline:
                check = " ".join(row.get(key) or "" for key in ("check_status", "last_chk")).strip()
                raise PoolError(
                    f"haproxy does not find {self._backend}/{server.name} up within {self._timeout:g}s",
                    cause=f"status {row.get('status')}; its check says: {check or 'nothing'}",
                    hint="look at the `check` of this server in haproxy.cfg (inter, rise), or raise `timeout` in the pool",
                )
            time.sleep(POLL)

    def _order(self, name: str, what: str) -> None:
        self._socket.order(f"set server {self._backend}/{name} {what}")

    def _write_state(self) -> None:
        """What haproxy reads when it is reloaded or started: without it every server would be as the config has it."""
        if self._state_file is None:
            return
        text = self._socket.ask(f"show servers state {self._backend}")
        try:
            files.replace(self._state_file, f"{text}\n".encode())
        except OSError as error:
            hint = f"give this user the directory {self._state_file.parent}"
            raise PoolError(f"{self._state_file} could not be written", cause=str(error), hint=hint) from error

    def _take_back(self, touched: Sequence[Server]) -> None:
        for server in reversed(touched):
            try:
                self._order(server.name, f"state {server.state}")
                self._write_state()
            except PoolError:
                pass  # the first refusal is what must be told
