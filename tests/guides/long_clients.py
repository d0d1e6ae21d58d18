"""Clients whose connections outlast a release: an upload in pieces, an answer that goes on, a WebSocket. Plain sockets."""

from __future__ import annotations

import base64
import os
import socket
from types import TracebackType

PATIENCE = 60.0
"""Seconds until a silent server fails the test."""


class Asked:
    """One request on a connection of its own, whose body and answer both go on as long as the test wants."""

    def __init__(self, port: int, path: str, method: str = "GET", headers: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._answer = self._socket.makefile("rb")
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: app\r\n{headers}\r\n".encode())

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._answer.close()
        self._socket.close()

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of the answer."""
        status = int(self._answer.readline().split()[1])
        lines = iter(self._answer.readline, b"\r\n")
        return status, dict(line.decode().lower().strip().split(": ", 1) for line in lines)

    def send_piece(self, data: bytes) -> None:
        """One chunk of the request's body; b"" ends it."""
        self._socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def piece(self) -> bytes:
        """The next chunk of the answer; b"" when it has been ended properly. Fails where it was cut."""
        line = self._answer.readline()
        assert line.endswith(b"\r\n"), "the answer was cut"
        data = self._answer.read(int(line, 16) + 2)
        assert data.endswith(b"\r\n"), "the answer was cut"
        return data[:-2]


class WebSocket(Asked):
    """A WebSocket client for short texts."""

    def __init__(self, port: int, path: str = "/") -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = (
            f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        )
        super().__init__(port, path, headers=upgrade)
        assert self.head()[0] == 101

    def say(self, text: str) -> None:
        mask, data = os.urandom(4), text.encode()
        masked = bytes(byte ^ mask[number % 4] for number, byte in enumerate(data))
        self._socket.sendall(bytes([0x81, 0x80 | len(data)]) + mask + masked)

    def hear(self) -> str | int:
        """The next text, or the code with which the server closes."""
        kind, length = self._answer.read(2)
        data = self._answer.read(length)
        if kind == 0x88:
            return int.from_bytes(data[:2], "big")
        return data.decode()
