"""A registry by hand: what a NodeAgent says to it, and an end to each connection as the test wants it."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

WELCOME = {"type": "welcome", "v": 1, "heartbeat_s": 0.2, "timeout_s": 1.0, "draining": False}


class ScriptedRegistry:
    """Welcomes every node; `said` holds (connection number, message), `left` (number, close code, reason)."""

    def __init__(self, welcome: dict[str, Any] = WELCOME, port: int = 0) -> None:
        self.said: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
        self.left: queue.Queue[tuple[int, int | None, str]] = queue.Queue()
        self.arrived: list[float] = []
        self.connections: list[ServerConnection] = []
        self.headers: list[dict[str, str]] = []
        self._welcome = welcome
        self._server = serve(self._serve, "127.0.0.1", port, compression=None)
        self.port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _serve(self, connection: ServerConnection) -> None:
        number = len(self.connections)
        self.connections.append(connection)
        assert connection.request is not None
        self.headers.append(dict(connection.request.headers.raw_items()))
        try:
            for message in connection:
                self.arrived.append(time.monotonic())
                self.said.put((number, json.loads(message)))
                if number == len(self.connections) - 1 and json.loads(message)["type"] == "register":
                    connection.send(json.dumps(self._welcome))
        except ConnectionClosed:
            pass
        received = connection.protocol.close_rcvd
        self.left.put((number, received.code if received else None, received.reason if received else ""))

    def next(self, kind: str, within: float = 10.0) -> dict[str, Any]:
        """The next message of *kind*; heartbeats on the way to it are passed over."""
        deadline = time.monotonic() + within
        while True:
            message = self.said.get(timeout=max(0.01, deadline - time.monotonic()))[1]
            if message["type"] == kind:
                return message

    def cut(self, number: int) -> None:
        """Break connection *number*, without a word. Closed alone, it would stay open as long as its thread reads it."""
        try:
            self.connections[number].socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has gone

    def close(self) -> None:
        self._server.shutdown()
        for number in range(len(self.connections)):
            self.cut(number)
        self._thread.join(5)
