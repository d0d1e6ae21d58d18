"""nginx by files: its config looks, at each request, which addresses have a file in a directory. No reload."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from deployer.errors import PoolError
from deployer.host.pools import address as address_of
from deployer.host.pools.base import UNTOUCHED, ByAddress, preflight
from deployer.host.pools.directory import Directory
from deployer.host.pools.nginx_config import Command, sections
from deployer.host.pools.nginx_master import Master


class NginxDirectory(ByAddress):
    """
    Sends to the addresses whose file stands in `directory`: no worker is replaced, so clients keep their connections.

    Settings: `directory`, `command`, `pidfile`, `timeout`. nginx's config has, for each address,
    `if (-f DIRECTORY/127.0.0.1:3001) { set $live 127.0.0.1:3001; }`, and `proxy_pass http://$live;`.
    """

    def __init__(self, settings: Dict[str, Any]) -> None:
        self._directory = Directory(settings["directory"])
        self._nginx = Command(settings)

    def check(self, addresses: Sequence[str]) -> None:
        """nginx accepts its config and runs, the config looks for the files of *addresses*, and we may write them."""
        try:
            text = "\n".join(sections(self._nginx.test()).values())
            for address in addresses:
                self._require_looked_for(text, address)
            Master(self._nginx.pidfile()).pid()
        except PoolError as error:
            raise preflight(error) from error
        self._directory.require_writable()

    def send_to(self, addresses: Sequence[str], leaving: Sequence[str] = ()) -> None:
        """nginx need not be told: it looks."""
        self._directory.send_to(addresses, leaving)

    def in_flight(self, address: str) -> Optional[int]:
        """
        Connections to the app, where it is on this machine: nginx makes one for each request, and nobody else counts them.

        A client that comes past nginx is counted too.
        """
        try:
            return address_of.established(address) if address_of.is_here(address) else None
        except PoolError:
            return None

    def _require_looked_for(self, text: str, address: str) -> None:
        file = self._directory.file(address)
        if str(file) not in text:
            raise PoolError(
                f"nginx does not send to {address} by its file",
                cause=f"its config does not look for {file}",
                state=UNTOUCHED,
                hint=f"add `if (-f {file}) {{ set $live {address}; }}`; deploy.example.toml has all the lines",
            )
