"""Whether anybody listens where a Ray cluster should: Ray itself waits a minute for one that is not there, and says so in its own way."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Optional

from deployer.errors import LinkError

WITHIN = 5.0
"""Seconds for one connection."""


def require_listener(address: Optional[str] = None) -> None:
    """
    Return where something listens at *address* ("auto" or None: what Ray would take), or where Ray alone can tell. Raises LinkError.
    """
    named = meant(address)
    host, colon, port = named.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), WITHIN).close()
    except (OSError, OverflowError) as error:
        raise LinkError(
            f"no Ray cluster answers at {named}",
            cause=str(error),
            state="nothing was changed by this call",
            hint="see `ray status` there, or name another one with ray_address or RAY_ADDRESS",
        ) from None


def meant(address: Optional[str] = None) -> str:
    """The address that Ray takes for *address*, as far as it is written anywhere; else "auto"."""
    if address and address != "auto":
        return address
    named = os.environ.get("RAY_ADDRESS", "")
    if named and named != "auto":
        return named
    try:
        return Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").read_text().strip() or "auto"
    except OSError:
        return "auto"
