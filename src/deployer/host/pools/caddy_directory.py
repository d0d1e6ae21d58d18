"""Caddy by files: a matcher of its config looks, at each request, which addresses have a file in a directory."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Set

from deployer.errors import PoolError
from deployer.host.pools.base import UNTOUCHED, ByAddress, preflight
from deployer.host.pools.caddy_admin import ADMIN, Admin
from deployer.host.pools.directory import Directory


class CaddyDirectory(ByAddress):
    """
    Sends to the addresses whose file stands in `directory`: nothing is loaded, no connection is closed, caddy keeps its counts.

    Settings: `directory`, `admin` (caddy's default), `origin`, `timeout`. The Caddyfile has, for each address, a matcher
    `file` with that root and `try_files /127.0.0.1:3001`, and a reverse_proxy under it.
    """

    def __init__(self, settings: Dict[str, Any]) -> None:
        self._directory = Directory(settings["directory"])
        self._admin = Admin(settings.get("admin") or ADMIN, float(settings["timeout"]), settings.get("origin"))

    def check(self, addresses: Sequence[str]) -> None:
        """Caddy answers, its config looks into the directory and sends to *addresses*, and we may write there."""
        try:
            config = self._admin.get("/config/").body
            for address in addresses:
                self._require_matched(set(_strings(config)), address)
        except PoolError as error:
            raise preflight(error) from error
        self._directory.require_writable()

    def send_to(self, addresses: Sequence[str], leaving: Sequence[str] = ()) -> None:
        """Caddy need not be told: it looks."""
        self._directory.send_to(addresses, leaving)

    def in_flight(self, address: str) -> Optional[int]:
        """What caddy counts; None when it cannot be asked, or has no upstream of that address."""
        try:
            return self._admin.requests().get(address)
        except PoolError:
            return None

    def _require_matched(self, words: Set[str], address: str) -> None:
        root, file = str(self._directory.path), self._directory.file(address)
        wanted = {
            f"an upstream {address}": address in words,
            f"a file matcher with root {root}": root in words,
            f"try_files /{file.name}": f"/{file.name}" in words,
        }
        missing = [what for what, there in wanted.items() if not there]
        if missing:
            raise PoolError(
                f"caddy does not send to {address} by its file",
                cause=f"its config has not: {', '.join(missing)}",
                state=UNTOUCHED,
                hint="deploy.example.toml has the lines for the Caddyfile, next to `directory`",
            )


def _strings(config: Any) -> List[str]:
    """Every text in *config*."""
    if isinstance(config, dict):
        return [text for value in config.values() for text in _strings(value)]
    if isinstance(config, list):
        return [text for value in config for text in _strings(value)]
    return [config] if isinstance(config, str) else []
