"""A directory with a file for each address that takes traffic: a proxy's config looks there at each request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Sequence

from deployer.errors import PoolError, PreflightError
from deployer.host.pools import address as address_of
from deployer.host.pools import files
from deployer.host.pools.base import UNTOUCHED


class Directory:
    """The files in *path*, each named as the address. Nothing is loaded, so no connection is closed."""

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.expanduser(path))

    def require_writable(self) -> None:
        """Raises PreflightError when we could not put files there."""
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise PreflightError(
                f"{self.path} cannot be written",
                cause="the pool's `directory` is not there, or not this user's to write to",
                state=UNTOUCHED,
                hint=f"create it for the login user, readable for the proxy: install -d -m 755 -o USER {self.path}",
            )

    def send_to(self, addresses: Sequence[str], leaving: Sequence[str]) -> None:
        """Each file is there or not; who joins does so before the other one leaves. Raises PoolError."""
        made: List[Path] = []
        try:
            for file in map(self.file, addresses):
                if not file.exists():
                    made.append(file)
                    files.replace(file, b"")
            for address in leaving:
                if address not in addresses:
                    self.file(address).unlink(missing_ok=True)
            files.sync(self.path)
        except OSError as error:
            for file in made:
                file.unlink(missing_ok=True)
            hint = f"give this user the directory {self.path}"
            raise PoolError("the pool could not be changed", cause=str(error), state=UNTOUCHED, hint=hint) from error

    def file(self, address: str) -> Path:
        """Where the file of *address* stands. Raises PoolError when it is none."""
        address_of.split(address)
        if "/" in address:
            raise PoolError(f"{address} is no address of the form host:port", state=UNTOUCHED)
        return self.path / address
