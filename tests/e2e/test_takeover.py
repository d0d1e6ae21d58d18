"""A service that listens by itself, and is then pushed with a socket: its listening socket is taken over, and nobody is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import SOURCE, alive, wait_until
from load import Load
from overlapping import EXAMPLES, Overlapping, overlapping

LOAD = {"rate": 100, "kept": 4, "slow_rate": 1, "slow_seconds": 2}


@contextmanager
def by_hand(app: Overlapping) -> Iterator[int]:
    """The app as somebody has started it long ago, on its own port."""
    env = {**os.environ, "PORT": str(app.port), "LINGER": "0.3", "PYTHONPATH": str(EXAMPLES)}
    process = subprocess.Popen(
        [sys.executable, "-S", str(app.dist / "overlap_app.py")], env=env, stdout=subprocess.DEVNULL, cwd=app.root
    )
    try:
        wait_until(lambda: app.get("/"), what="it listens")
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("strategy", ["overlap", pytest.param("restart", marks=pytest.mark.full)])
def test_first_push_takes_the_listening_socket_over(tmp_path: Path, strategy: str) -> None:
    with overlapping(tmp_path) as app, by_hand(app) as pid:
        app.write(strategy=strategy, more=f"[adopt]\nport = {app.port}")
        with Load(app.url, **LOAD) as load:
            result = app.push()
            app.release("v2")
            app.push()
            figures = load.stop()
        assert figures.lost == 0, figures.losses
        assert {"none", app.current()} < set(figures.releases)
        assert result.event("drain.finished")["pid"] == pid and not alive(pid)
        if strategy == "overlap":
            assert result.event("host.finished")["gap_ms"] == 0


def test_push_that_gives_a_running_service_a_socket_takes_its_own_over(tmp_path: Path) -> None:
    """It was pushed with ports before, and bound by itself."""
    with overlapping(tmp_path) as app:
        app.write(run=f"ports = [{app.port}]", strategy="restart")
        app.push()
        app.write()
        app.release("v2")
        with Load(app.url, **LOAD) as load:
            app.push()
            figures = load.stop()
        assert figures.lost == 0, figures.losses
        assert len(figures.releases) == 2


@pytest.mark.parametrize("strategy", ["overlap", pytest.param("restart", marks=pytest.mark.full)])
def test_socket_that_cannot_be_taken_over_is_a_gap_that_is_told(tmp_path: Path, strategy: str) -> None:
    """As under Yama's ptrace_scope, for whoever is not root: the kernel does not let us have the descriptor."""
    source = tmp_path / "src"
    shutil.copytree(SOURCE, source)
    module = source / "deployer" / "host" / "sockets.py"
    text = module.read_text()
    asked = "syscall(pidfd_getfd, handle.fileno(), number, 0)"
    assert asked in text
    module.write_text(text.replace(asked, "syscall(pidfd_getfd, -1, number, 0)"))
    with overlapping(tmp_path / "app") as app, by_hand(app) as pid:
        app.env = {"PYTHONPATH": str(source)}
        app.write(strategy=strategy, more=f"[adopt]\nport = {app.port}")
        result = app.push()
        warning = next(event["text"] for event in result.events if event["event"] == "warning")
        assert "has a gap" in warning and f"pid {pid} listens on 127.0.0.1:{app.port} by itself" in warning
        assert result.event("host.finished")["gap_ms"] > 0 and not alive(pid)
        app.release("v2")
        result = app.push()  # and from now on it is ours
        assert not [event for event in result.events if event["event"] == "warning" and "gap" in event["text"]]
        assert strategy == "restart" or result.event("host.finished")["gap_ms"] == 0
