"""sd_notify(3): what whoever started us may know of us, where NOTIFY_SOCKET says that it listens."""

from __future__ import annotations

import os
import socket


class Notify:
    """Speaks to the socket *address*; says nothing where there is none. Never raises, never blocks."""

    def __init__(self, address: str) -> None:
        self._address = address

    @classmethod
    def from_environment(cls) -> Notify:
        return cls(os.environ.get("NOTIFY_SOCKET", ""))

    def __bool__(self) -> bool:
        return bool(self._address)

    def ready(self) -> None:
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        self._send("STATUS=" + " ".join(text.split()))

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode("utf-8", "replace"), address)
        except (OSError, ValueError, AttributeError):  # it has gone, or is full: news, not work
            pass
