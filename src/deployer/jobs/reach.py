"""Whether anybody listens where a Ray cluster should: Ray itself waits more than a minute for one that is not there."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Optional

from deployer.errors import LinkError

WITHIN = 5.0
"""Seconds for the connection, and again for each word."""
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
"""How gRPC begins: the preface of HTTP/2, and empty settings."""


def require_listener(address: Optional[str] = None) -> None:
    """
    Return where something listens at *address* ("auto" or None: what Ray would take), or where only Ray can tell. LinkError.
    """
    named = meant(address)
    host, colon, port = named.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), WITHIN) as tried:
            _greet(tried)
    except (OSError, OverflowError) as error:
        raise LinkError(
            f"no Ray cluster answers at {named}",
            cause=str(error) or type(error).__name__,
            state="nothing was changed by this call",
            hint="see `ray status` there, or name another one with ray_address or RAY_ADDRESS",
        ) from None


def _greet(tried: socket.socket) -> None:
    """Raises OSError where what listens does not speak gRPC, as every part of Ray does, or says nothing at all."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return  # it would have to be greeted with the cluster's certificates: Ray does that
    tried.settimeout(WITHIN)
    tried.sendall(_HELLO)
    said = tried.recv(9)
    if said[3:4] != b"\x04":  # the other side's settings
        raise OSError("what listens there does not speak as Ray does")


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
