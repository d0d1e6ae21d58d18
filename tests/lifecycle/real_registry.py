"""`deployer registry serve` as a process of its own, and an observer of its events with the moment at which each arrived."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADMIN = "DEPLOYER_REGISTRY_ADMIN_TOKEN"
SOURCE = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Seen:
    """One event of the registry, and when it reached us (monotonic seconds, the same clock in every process)."""

    event: str
    node: dict[str, Any]
    at: float


class RealRegistry:
    """The registry at *address*; `events` are all that it has told so far."""

    def __init__(
        self,
        process: subprocess.Popen[str],
        address: str,
        connect: Callable[[], http.client.HTTPConnection],
        token: str | None,
    ) -> None:
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.process, self.address = process, address
        self.url, self.ws = f"http://{address}", f"ws://{address}"
        self.events: list[Seen] = []
        self._connect = connect
        self._news = threading.Condition()
        self._following = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()
        assert self._following.wait(10), "no snapshot of events"

    def _follow(self) -> None:
        connection = self._connect()
        connection.request("GET", "/events", headers=self._headers)
        response = connection.getresponse()
        kind = ""
        try:
            for raw in response:
                at, line = time.monotonic(), raw.decode().rstrip("\r\n")
                if line.startswith("event:"):
                    kind = line[6:].strip()
                elif line.startswith("data:"):
                    self._heard(kind, json.loads(line[5:]), at)
        except (OSError, ValueError):
            pass

    def _heard(self, kind: str, data: dict[str, Any], at: float) -> None:
        if kind == "snapshot":
            self._following.set()
            return
        with self._news:
            self.events.append(Seen(kind, data.get("node", data), at))
            self._news.notify_all()

    def first(self, kinds: Sequence[str], node: str, after: float, within: float = 20.0) -> Seen:
        """The first event of one of *kinds* about *node* that came later than *after*."""

        def found() -> Seen | None:
            return next((s for s in self.events if s.event in kinds and s.node["id"] == node and s.at > after), None)

        with self._news:
            self._news.wait_for(found, within)
            seen = found()
        assert seen is not None, f"none of {kinds} about {node} within {within} s; told were {self.events[-5:]}"
        return seen

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = self._connect()
        try:
            headers = {"Content-Type": "application/json", **self._headers}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return json.loads(answer.read() or "null")
        finally:
            connection.close()

    def node(self, name: str) -> dict[str, Any] | None:
        return next((one for one in self.ask("GET", "/nodes") if one["id"] == name), None)

    def pool(self, name: str) -> list[str]:
        return list(self.ask("GET", f"/pools/{name}").get("nodes", []))


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{SOURCE}", **more}


@contextmanager
def real_registry(*options: str, prefix: Sequence[str] = (), listen: str = "127.0.0.1:0", env: dict[str, str] | None = None,
                  connect: Callable[[str], http.client.HTTPConnection] | None = None) -> Iterator[RealRegistry]:  # fmt: skip
    """A registry of its own; *prefix* stands before the command, *connect* makes a connection to its address."""
    argv = [*prefix, sys.executable, "-m", "deployer", "registry", "serve", "--json", "--listen", listen, *options]
    process = subprocess.Popen(argv, env=env or environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        assert started["event"] == "registry.started", started
        address = started["listen"]
        drainer = threading.Thread(target=process.stdout.read, daemon=True)
        drainer.start()
        make = connect or (lambda where: http.client.HTTPConnection(where, timeout=30))
        yield RealRegistry(process, address, lambda: make(address), (env or {}).get(ADMIN))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
