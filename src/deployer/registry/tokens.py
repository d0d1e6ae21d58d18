"""Who may come in: a node with the nodes' token, an admin with the admin's."""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployer.errors import UsageError


@dataclass(frozen=True, repr=False)
class Tokens:
    """The secrets; None where everybody is let in. An admin may do all, a node may only be a node."""

    node: str | None = None
    admin: str | None = None

    def admits_node(self, authorization: str | None) -> bool:
        # With an admin's token alone, nobody but an admin may register: a forgotten token opens no door.
        if self.node is None and self.admin is None:
            return True
        return _same(authorization, self.node) or _same(authorization, self.admin)

    def admits_admin(self, authorization: str | None) -> bool:
        return self.admin is None or _same(authorization, self.admin)


def read_token(file: str | None, variable: str, environment: Mapping[str, str]) -> str | None:
    """
    The token in *file*, else in the environment's *variable*, else None.

    Raises UsageError for a file that others may read, or that holds no token.
    """
    if file is None:
        return _checked(environment[variable], f"${variable}") if variable in environment else None
    path = Path(file)
    try:
        with path.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read(4097)
    except OSError as error:
        raise UsageError(f"the token file {path} could not be read", cause=error.strerror or str(error)) from None
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError(
            f"the token file {path} is open to others",
            cause=f"its mode is {stat.S_IMODE(mode):04o}: whoever can read it can act as its owner",
            hint=f"chmod 600 {path}, and a new token if others have had the time to read it",
        )
    return _checked(text.decode("utf-8", "replace").strip(), str(path))


def _checked(token: str, where: str) -> str:
    if not token or len(token) > 4096 or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"there is no token in {where}",
            cause="a token is one word of printable ASCII characters",
            hint=f"for example: openssl rand -hex 32 > {where}" if not where.startswith("$") else None,
        )
    return token


def _same(authorization: str | None, token: str | None) -> bool:
    if authorization is None or token is None:
        return False
    kind, _, given = authorization.partition(" ")
    # Compared as bytes: str is only compared where it is ASCII.
    return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
