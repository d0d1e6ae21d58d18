"""What people do without a tool: kill, wait, start; or two ports, nginx' upstream file, and a reload."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.processes import end, free_port, wait_until
from benchmarks.swap.proxies import Proxy, nginx_by_upstream
from benchmarks.swap.way import SLOW, Settings, Told, copy_app, serves, settings

WAIT = SLOW + 1.0
"""Seconds that who waits before he stops the old app gives it."""
GIVES_UP = 10.0
"""Seconds after which who started a release by hand looks why it does not answer."""
AS_MOST_SERVERS = {"LAME_DUCK": "0"}
"""On SIGTERM: close the listener and the idle connections, finish what is in flight."""


class Plain:
    """The app on a port of its own, started by us."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._program = copy_app("python", root / "app")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, port: int, release: str, more: Settings) -> None:
        env = {**os.environ, **settings(release, PORT=str(port)), **AS_MOST_SERVERS, **more}
        with (self._root / "app.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-S", self._program], cwd=self._root / "app", env=env, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def end(self) -> None:
        if self.process is not None:
            end(self.process)


class KillStart:
    """SIGTERM, wait for the exit, start."""

    def __init__(self, root: Path) -> None:
        self.app, self._port = Plain(root), free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def begin(self, release: str) -> None:
        self.app.start(self._port, release, {})
        wait_until(serves(self.url), "the app answers")

    def replace(self, release: str, more: Settings) -> Told:
        began = time.monotonic()
        assert self.app.process is not None
        self.app.process.terminate()
        self.app.process.wait()
        self.app.start(self._port, release, more)
        if more:  # broken: nobody goes on by himself
            time.sleep(GIVES_UP)
            return Told(time.monotonic() - began, 0)
        wait_until(serves(self.url, release), "the new release answers")
        return Told(time.monotonic() - began, 0)


class NginxByHand:
    """Start the new app on the other port, write the upstream file, reload, stop the old app after *wait* seconds."""

    def __init__(self, root: Path, proxy: Proxy, ports: list[int], wait: float) -> None:
        self._root, self._proxy, self._ports, self._wait = root, proxy, ports, wait
        self.url, self._count = proxy.url, 0
        self.apps: list[Plain] = []

    def begin(self, release: str) -> None:
        self._start(release, {})
        wait_until(serves(self.url), "the proxy has an app")

    def replace(self, release: str, more: Settings) -> Told:
        began = time.monotonic()
        old = self.apps[-1]
        port = self._start(release, more)
        self._proxy.switch(port)
        time.sleep(self._wait)
        old.end()
        wait_until(serves(self.url, release), "the new release answers")
        return Told(time.monotonic() - began, 0)

    def _start(self, release: str, more: Settings) -> int:
        port = self._ports[self._count % 2]
        self._count += 1
        app = Plain(self._root / f"app-{self._count}")
        self.apps.append(app)
        app.start(port, release, more)
        wait_until(serves(f"http://127.0.0.1:{port}", release), "the app answers")
        return port


@contextmanager
def kill_start(root: Path) -> Iterator[KillStart]:
    way = KillStart(root)
    try:
        yield way
    finally:
        way.app.end()


@contextmanager
def nginx_by_hand(root: Path, wait: float = 0.0) -> Iterator[NginxByHand]:
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        proxy = stack.enter_context(nginx_by_upstream(root / "nginx", ports[0]))
        way = NginxByHand(root, proxy, ports, wait)
        try:
            yield way
        finally:
            for app in way.apps:
                app.end()
