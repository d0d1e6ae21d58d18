"""Caddy by files: a matcher of its config looks, at each request, which addresses have a file in a directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from deployer.errors import PoolError, PreflightError
from deployer.host.pools import address as address_of
from deployer.host.pools import files
from deployer.host.pools.base import UNTOUCHED, preflight
from deployer.host.pools.caddy_admin import ADMIN, Admin


class CaddyDirectory:
    """
    Sends to the addresses whose file stands in `directory`: nothing is loaded, no connection is closed, caddy keeps its counts.

    Settings: `admin`, `directory`, `origin`, `timeout`. The Caddyfile has, for each address:
    `@a file { root DIRECTORY; try_files /127.0.0.1:3001 }` and `reverse_proxy @a 127.0.0.1:3001`.
    """

    def __init__(self, settings: Dict[str, Any]) -> None:
        self._directory = Path(os.path.expanduser(settings["directory"]))
        self._admin = Admin(settings.get("admin") or ADMIN, float(settings["timeout"]), settings.get("origin"))

    def check(self, addresses: Sequence[str]) -> None:
        """Caddy answers, its config looks into the directory and sends to *addresses*, and we may write there."""
        try:
            config = self._admin.get("/config/").body
            for address in addresses:
                self._require_matched(config, address)
        except PoolError as error:
            raise preflight(error) from error
        if not os.access(self._directory, os.W_OK | os.X_OK):
            raise PreflightError(
                f"{self._directory} cannot be written",
                cause="the pool's `directory` is not there, or not this user's to write to",
                state=UNTOUCHED,
                hint=f"create it for the login user, readable for caddy: install -d -m 755 -o USER {self._directory}",
            )

    def send_to(self, addresses: Sequence[str], leaving: Sequence[str] = ()) -> None:
        """Each file is there or not: who joins does so before the other one leaves."""
        made: List[Path] = []
        try:
            for address in addresses:
                file = self._file(address)
                if not file.exists():
                    files.replace(file, b"")
                    made.append(file)
            for address in leaving:
                if address not in addresses:
                    self._file(address).unlink(missing_ok=True)
            files.sync(self._directory)
        except OSError as error:
            for file in made:
                file.unlink(missing_ok=True)
            hint = f"give this user the directory {self._directory}"
            raise PoolError(
                "caddy's pool could not be changed", cause=str(error), state=UNTOUCHED, hint=hint
            ) from error

    def in_flight(self, address: str) -> Optional[int]:
        """What caddy counts; None when it cannot be asked."""
        try:
            return self._admin.requests().get(address)
        except PoolError:
            return None

    def _file(self, address: str) -> Path:
        host, _ = address_of.split(address)
        if "/" in host:
            raise PoolError(f"{address} is no address of the form host:port", state=UNTOUCHED)
        return self._directory / address

    def _require_matched(self, config: Any, address: str) -> None:
        words = set(_strings(config))
        name = self._file(address).name
        wanted = {
            f"an upstream {address}": address in words,
            f"a file matcher with root {self._directory}": str(self._directory) in words,
            f"try_files /{name}": f"/{name}" in words or name in words,
        }
        missing = [what for what, there in wanted.items() if not there]
        if missing:
            raise PoolError(
                f"caddy does not send to {address} by its file",
                cause=f"its config has not: {', '.join(missing)}",
                state=UNTOUCHED,
                hint=f"add `@a file {{ root {self._directory}; try_files /{name} }}` and `reverse_proxy @a {address}`",
            )


def _strings(config: Any) -> List[str]:
    """Every text in *config*."""
    if isinstance(config, dict):
        return [text for value in config.values() for text in _strings(value)]
    if isinstance(config, list):
        return [text for value in config for text in _strings(value)]
    return [config] if isinstance(config, str) else []
