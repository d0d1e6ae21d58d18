"""A host as `deploy.toml` spells it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HOST = re.compile(r"(?:(?P<user>.*)@)?(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:@]*))(?::(?P<port>\d+))?")


@dataclass(frozen=True)
class Address:
    """`user@host:port`; `user` and `port` are None where the ssh config, or the default, decides. `written` is all of it."""

    written: str
    host: str
    user: str | None = None
    port: int | None = None

    @staticmethod
    def parse(written: str) -> Address:
        """The parts of *written*, which config/addresses.py has found to be a host."""
        found = _HOST.fullmatch(written)
        if found is None:
            raise ValueError(f"{written!r} is not a host")
        port = int(found["port"]) if found["port"] else None
        return Address(written, found["v6"] or found["name"] or "", found["user"], port)
