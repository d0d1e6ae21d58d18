"""A dispatcher: sends tasks to the least busy node of a pool, as the registry's events say, and never asks it."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from lifecycle.real_registry import RealRegistry


class Dispatcher:
    """
    One task after another, each in a thread of its own, *every* seconds, of *seconds*; *ports* tells where a node listens.

    `sent` counts them, `lost` are those that got no answer, `refused` those that a node which was leaving sent back.
    """

    def __init__(self, registry: RealRegistry, ports: Mapping[str, int], every: float, seconds: float) -> None:
        self.sent, self.done = 0, 0
        self.lost: list[str] = []
        self.refused: list[str] = []
        self._registry, self._ports, self._every, self._seconds = registry, ports, every, seconds
        self._nodes: dict[str, dict[str, Any]] = {one["id"]: one for one in registry.ask("GET", "/nodes")}
        self._mine: Counter[str] = Counter()
        self._read = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._tasks: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Dispatcher:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(10)
        for task in self._tasks:
            task.join(self._seconds + 60)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            node = self._least_busy()
            if node is not None:
                self.send(f"{self.sent + 1}", node)

    def send(self, task: str, node: str) -> None:
        """Give *task* to *node*, and do not wait for it."""
        self.sent += 1
        thread = threading.Thread(target=self._send, args=(task, node), daemon=True)
        self._tasks.append(thread)
        thread.start()

    def _least_busy(self) -> str | None:
        """By what we have sent ourselves, of those who take work by the registry's last word."""
        events = self._registry.events
        for seen in events[self._read :]:
            self._nodes[seen.node["id"]] = seen.node
            self._read += 1
        with self._lock:
            takes = [name for name, node in self._nodes.items() if node["status"] == "online" and name in self._ports]
            return min(takes, key=lambda name: self._mine[name], default=None)

    def _send(self, task: str, node: str) -> None:
        with self._lock:
            self._mine[node] += 1
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self._ports[node], timeout=self._seconds + 60)
            connection.request("POST", f"/task?id={task}&seconds={self._seconds}")
            status = connection.getresponse().status
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            self.lost.append(f"{task} at {node}: {error!r}")
            return
        finally:
            with self._lock:
                self._mine[node] -= 1
        if status == 200:
            self.done += 1
        elif status == 503:
            self.refused.append(f"{task} at {node}")
        else:
            self.lost.append(f"{task} at {node}: HTTP {status}")
