"""Real proxies in directories of their own, backends behind them, and the switches that each must bear."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app import SERVICES, free_port, wait_until
from deployer.host.pools.base import Pool
from openload import Load
from parts import find

BROKEN_OFF = 5.0


@dataclass
class Proxy:
    """A running proxy: it listens on `port` (or at `path`), its files are in `root`; `told` is what it wrote to stderr."""

    root: Path
    port: int
    process: subprocess.Popen[bytes]
    path: str = ""

    def told(self) -> str:
        return (self.root / "stderr.txt").read_text()


@contextmanager
def running(argv: list[str], root: Path, port: int, path: str = "", **more: Any) -> Iterator[Proxy]:
    """*argv* in the foreground until the block ends; what it started has gone then too."""
    with (root / "stderr.txt").open("ab") as errors:
        process = subprocess.Popen(
            [find(argv[0]) or argv[0], *argv[1:]], stdout=errors, stderr=errors, cwd=root, stdin=subprocess.DEVNULL,
            start_new_session=True, **more,
        )  # fmt: skip
    try:
        proxy = Proxy(root, port, process, path)
        wait_until(lambda: listens(port, path) or process.poll() is not None, what=f"{argv[0]} listens")
        assert process.poll() is None, proxy.told()
        yield proxy
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End *process* and its group, which is its own."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(BROKEN_OFF)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def get(port: int, headers: dict[str, str] | None = None) -> str:
    """Who answers on *port*, or the status of a refusal."""
    ask = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers or {})
    try:
        with urllib.request.urlopen(ask, timeout=10) as answer:
            body = answer.read().decode()
            return body[: len(body) // 2]
    except urllib.error.HTTPError as error:
        return str(error.code)


def listens(port: int, path: str = "") -> bool:
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as probe:
        return probe.connect_ex(path or ("127.0.0.1", port)) == 0


@dataclass
class Backend:
    """tiny.py on a port of its own, which is started and ended again and again."""

    name: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        argv = [sys.executable, "-S", str(SERVICES / "tiny.py"), str(self.port), self.name]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        wait_until(lambda: listens(self.port), what=f"{self.name} listens")

    def waiting(self) -> int:
        """Slow requests that it has now."""
        with urllib.request.urlopen(f"http://{self.address}/waiting", timeout=10) as answer:
            return int(answer.read())

    def kill(self) -> None:
        """End it without a word: whoever still has a request there loses it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def two_backends() -> Iterator[tuple[Backend, Backend]]:
    """ "blue", which runs, and "green", which does not yet."""
    blue, green = Backend("blue"), Backend("green")
    try:
        blue.start()
        yield blue, green
    finally:
        blue.kill()
        green.kill()


def switch(pool: Pool, old: Backend, new: Backend, load: Load, slow: float) -> None:
    """One overlap push, as a pool sees it: with a request of *slow* seconds in flight at the old one, which then ends at once."""
    new.start()
    waiting = load.slow(slow)
    wait_until(lambda: old.waiting() or waiting.done(), what="a request is in flight")
    pool.send_to([new.address], leaving=[old.address])
    assert load.slow(0).result(30) == new.name
    wait_until(lambda: pool.in_flight(old.address) == 0, within=30, what=f"nothing is in flight at {old.name}")
    old.kill()
    assert waiting.result(30) == old.name


def switches(pool: Pool, load: Load, backends: tuple[Backend, Backend], times: int = 10) -> None:
    """*times* pushes from one backend to the other and back, one with a request of two seconds in flight."""
    old, new = backends
    for number in range(times):
        switch(pool, old, new, load, 2.0 if number == 3 else 0.15)
        old, new = new, old


def lost_otherwise(load: Load) -> dict[str, int]:
    """
    A reload of this proxy closes idle connections, and cuts a client that sends in the same moment. What was lost in other ways,
    or too often: most clients notice in time.
    """
    cut = {kind: count for kind, count in load.losses.items() if kind.endswith("on a kept connection")}
    if sum(cut.values()) > load.closed:
        return dict(load.losses)
    return {kind: count for kind, count in load.losses.items() if kind not in cut}
