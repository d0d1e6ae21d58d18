"""A `ThreadingHTTPServer` under a Lifecycle: it accepts in a thread, and leaves as a lame duck."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Dict

from deployer.lifecycle.requests import Requests
from deployer.lifecycle.web import Web

TURN = 0.05


class Duck:
    """The connections of one *server*: those that wait for a request are idle, and ended by us once they have waited enough."""

    def __init__(self, server: HTTPServer, web: Web, requests: Requests) -> None:
        self._server, self.web, self.requests = server, web, requests
        self._lock = threading.Lock()
        self._idle: Dict[socket.socket, float] = {}

    def start(self) -> None:
        """Accept, in a thread of its own, once the gate is open."""
        self._server.socket.setblocking(False)  # another process may take whom select() has announced
        handler: Any = self._server.RequestHandlerClass
        named = {"duck": self}
        self._server.RequestHandlerClass = type(handler.__name__, (_Ducked, handler), named)
        self._thread = threading.Thread(target=self._accept, name="lifecycle-http", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Stop accepting, let be read what was accepted, end what stays idle; returns when no connection is idle."""
        self.web.gate.open()  # whoever waits for it shall not begin
        self._server.shutdown()
        self._server.socket.close()
        while True:
            with self._lock:
                for line, left in list(self._idle.items()):
                    self._idle[line] = left - TURN
                    if left <= 0:
                        _end_reading(line)
                if not self._idle:
                    return
            threading.Event().wait(TURN)

    def waits(self, line: socket.socket, used: bool) -> None:
        with self._lock:
            self._idle[line] = self.web.linger if used else self.web.unread

    def asks(self, line: socket.socket) -> None:
        with self._lock:
            self._idle.pop(line, None)

    def _accept(self) -> None:
        self.web.gate.wait()
        self._server.serve_forever(poll_interval=TURN)


class _Ducked:
    """Before the app's own handler: tells when it waits, counts what it answers, says `Connection: close` while we leave."""

    duck: Duck
    _used = False

    def handle_one_request(self: Any) -> None:
        self.duck.waits(self.connection, self._used)
        self._request = None
        try:
            super().handle_one_request()  # type: ignore[misc]
        finally:
            self.duck.asks(self.connection)
            if self._request is not None:
                self._request.__exit__(None, None, None)
                self._request.end()

    def parse_request(self: Any) -> bool:
        self.duck.asks(self.connection)
        good: bool = super().parse_request()  # type: ignore[misc]
        if good:
            self._used, self._request = True, self.duck.requests.begin(self.command).__enter__()
        return good

    def end_headers(self: Any) -> None:
        if self.duck.web.leaving:
            BaseHTTPRequestHandler.send_header(self, "Connection", "close")  # which ends the connection, too
        super().end_headers()  # type: ignore[misc]


def _end_reading(line: socket.socket) -> None:
    """The handler's thread reads the end of the stream, and closes."""
    try:
        line.shutdown(socket.SHUT_RD)
    except OSError:
        pass
