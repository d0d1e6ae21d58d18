"""A registry as a process, nodes that speak its protocol by hand, and HTTP without a library that would be kind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

SOURCE = Path(__file__).parents[2] / "src"
PATIENCE = 20.0
Event = dict[str, Any]


class Serving:
    """`deployer registry serve --json` in a process; its events as they come."""

    def __init__(self, *options: str, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "deployer", "--json", "registry", "serve", "--listen", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(
            command, env=cleared(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events: list[Event] = []
        self._news: queue.Queue[Event | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        started = self.event("registry.started")
        self.address = str(started["listen"])
        self.url = f"{'https' if started['tls'] else 'http'}://{self.address}"
        self.port = int(self.address.rpartition(":")[2])

    def event(self, name: str, node: str | None = None, after: int = 0) -> Event:
        """The first event of that name, of *node*, among those from number *after* on; waits for it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for event in self.events[after:]:
                if event["event"] == name and node in (None, event.get("node")):
                    return event
            try:
                news = self._news.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                news = None
            if news is None:
                raise AssertionError(f"no {name} of {node} in {self.events[after:]}")
            self.events.append(news)

    def get(self, path: str, token: str | None = None) -> Any:
        return self.ask("GET", path, token=token)[1]

    def ask(
        self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, _read(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error)

    def node(self, id: str, **said: Any) -> RawNode:
        return RawNode(self.address, id, **said)

    def raw(self, data: bytes = b"") -> socket.socket:
        """A connection on which *data* was sent as it is."""
        host, _, port = self.address.rpartition(":")
        sock = socket.create_connection((host, int(port)), PATIENCE)
        sock.sendall(data)
        return sock

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._news.put(json.loads(line))
        self._news.put(None)


class RawNode:
    """A node: says what a test has it say."""

    def __init__(self, address: str, id: str, register: bool = True, token: str | None = None, **said: Any) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.id = id
        self.wire: ClientConnection = connect(
            f"ws://{address}",
            compression=None,
            additional_headers=headers,
            legacy=True,
            ping_interval=None,
            open_timeout=PATIENCE,
        )
        if register:
            self.say(
                type="register", v=1, id=id, **{"instance": f"{id}-1", "pools": ["workers"], "capacity": 4, **said}
            )
            self.welcome = self.hear()

    def say(self, **message: Any) -> None:
        self.wire.send(json.dumps(message))

    def hear(self) -> dict[str, Any]:
        return dict(json.loads(self.wire.recv(timeout=PATIENCE)))

    def told_to_go(self) -> tuple[int, str]:
        """Code and reason of the registry's close frame; waits for it."""
        with contextlib.suppress(Exception):
            while True:
                self.wire.recv(timeout=PATIENCE)
        close = self.wire.protocol.close_rcvd
        assert close is not None, "no close frame"
        return close.code, close.reason

    def stop(self, code: int = 1000, reason: str = "stopped") -> None:
        self.wire.close(code, reason)

    def cut(self) -> None:
        """Gone without a word, as a killed process goes."""
        with contextlib.suppress(OSError):
            self.wire.socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(*options: str, environment: dict[str, str] | None = None) -> Iterator[Serving]:
    registry = Serving(*options, environment=environment)
    try:
        yield registry
    finally:
        registry.end()


def deployer(*argv: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The `deployer` command, run to its end."""
    command = [sys.executable, "-m", "deployer", *argv]
    return subprocess.run(command, env=cleared(environment), capture_output=True, text=True, timeout=60)


def cleared(environment: dict[str, str] | None) -> dict[str, str]:
    # Unbuffered, a stream has no lock that a writer who is stuck could hold: users run it otherwise.
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("DEPLOYER_REGISTRY_", "PYTHONUNB"))}
    return {**ours, "PYTHONPATH": str(SOURCE), **(environment or {})}


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s until {what}"
        time.sleep(0.01)


def _read(answer: Any) -> Any:
    text = answer.read().decode()
    return json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text
