"""
Many nodes in one process, told by lines on stdin what to do: open N, beat SECONDS EVERY, close N, leave.

Answers each line with one line of JSON. Raw sockets: the clients shall cost as little as they can.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import socket
import sys
import time
from typing import Any

from websockets.frames import Frame, Opcode

PACE = 0.004
"""Seconds between two closes that are measured one by one."""


class Crowd:
    """The nodes of this process, named from *first* on."""

    def __init__(self, port: int, first: int) -> None:
        self._port, self._first = port, first
        self._open: dict[str, socket.socket] = {}

    def open(self, count: int) -> int:
        for number in range(self._first, self._first + count):
            self._open[f"node-{number}"] = self._connected(f"node-{number}")
        return len(self._open)

    def beat(self, seconds: float, every: float) -> int:
        """Heartbeats of all nodes, spread evenly, for so long; how many there were."""
        frame, sent, began = _text({"type": "heartbeat", "busy": 0, "tasks": []}), 0, time.monotonic()
        sockets = list(self._open.values())
        while (elapsed := time.monotonic() - began) < seconds:
            due = int(elapsed / every * len(sockets))
            for number in range(sent, due):
                sockets[number % len(sockets)].sendall(frame)
            sent = max(sent, due)
            time.sleep(0.005)
        return sent

    def close(self, count: int) -> dict[str, float]:
        """When each of so many nodes went, one after the other, without a word (as a killed process does)."""
        gone = {}
        for name in list(self._open)[:count]:
            gone[name] = time.monotonic()
            self._open.pop(name).close()
            time.sleep(PACE)
        return gone

    def leave(self) -> dict[str, float]:
        """All at once, with a close frame."""
        frame, gone = Frame(Opcode.CLOSE, b"\x03\xe8stopped").serialize(mask=True), {}
        for name, sock in self._open.items():
            gone[name] = time.monotonic()
            sock.sendall(frame)
            sock.close()
        self._open.clear()
        return gone

    def _connected(self, name: str) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._port), 30)
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        if not sock.recv(4096).startswith(b"HTTP/1.1 101"):
            raise SystemExit("the server refused a WebSocket")
        sock.sendall(_text(_hello(name)))
        sock.recv(4096)
        return sock


def _hello(name: str) -> dict[str, Any]:
    return {
        "type": "register", "v": 1, "id": name, "instance": name, "pools": ["workers", f"workers-{name[-1]}"],
        "release": "20261121T201500Z-9f3c1e", "capacity": 4, "busy": 0, "tasks": [], "status": "online", "pid": os.getpid(),
    }  # fmt: skip


def _text(message: dict[str, Any]) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=True)


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = Crowd(int(sys.argv[1]), int(sys.argv[2]))
    for line in sys.stdin:
        name, *numbers = line.split()
        print(json.dumps(getattr(crowd, name)(*map(float if name == "beat" else int, numbers))), flush=True)


if __name__ == "__main__":
    main()
