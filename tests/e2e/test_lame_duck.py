"""The lame duck of examples/: twenty replacements on one socket under load, and nobody is lost."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import SERVICES, free_port, wait_until
from holder import NODE_APP, PYTHON_APP, Holder, copy_of
from load import Figures, Load

APPS = [pytest.param(PYTHON_APP, id="python"), pytest.param(NODE_APP, id="node")]
UVICORN_APP = [sys.executable, str(SERVICES / "overlap_uvicorn.py")]
SWAPS = 6


def swapped(app: list[str], **load: float) -> Figures:
    """What clients of all kinds saw of so many swaps; each of the old ones has exited with 0."""
    with Holder(app) as holder, Load(holder.url, rate=200, kept=16, slow_rate=4, **load) as clients:
        for _ in range(SWAPS):
            holder.swap()
        wait_until(holder.all_ended_well, within=30, what="the old ones have finished their work and exited with 0")
        seen = clients.stop()
    assert seen.raw["kinds"]["slow"]["sent"] > SWAPS and seen.raw["connections"]["told_to_close"] > 0
    return seen


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("app", APPS)
def test_swaps_under_load_lose_nobody(app: list[str]) -> None:
    seen = swapped(app, slow_seconds=3)
    assert seen.losses == {}, seen.examples
    assert len(seen.releases) == SWAPS + 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(importlib.util.find_spec("uvicorn") is None, reason="no uvicorn here")
def test_swaps_of_uvicorn_lose_nobody() -> None:
    seen = swapped(UVICORN_APP, slow_seconds=3)
    assert seen.losses == {}, seen.examples
    assert len(seen.releases) == SWAPS + 1


@pytest.fixture(params=APPS)
def holder(request: pytest.FixtureRequest) -> Iterator[Holder]:
    with Holder(request.param, LINGER="2") as made:
        yield made


def connect(holder: Holder) -> http.client.HTTPConnection:
    client = http.client.HTTPConnection("127.0.0.1", int(holder.url.rpartition(":")[2]), timeout=20)
    client.connect()
    return client


def asked(client: http.client.HTTPConnection, path: str = "/") -> http.client.HTTPResponse:
    client.request("GET", path)
    answer = client.getresponse()
    answer.read()
    return answer


def stops_accepting(holder: Holder) -> None:
    """The one instance has been told, and has heard it: nobody accepts any more."""
    holder.instances[-1].send_signal(signal.SIGTERM)
    wait_until(lambda: _queued(holder) > 0, what="a connection stays in the queue")


def _queued(holder: Holder) -> int:
    with socket.create_connection(("127.0.0.1", int(holder.url.rpartition(":")[2]))) as probe:
        probe.settimeout(0.2)
        probe.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        try:
            return 0 if probe.recv(1) else 1
        except TimeoutError:
            return 1


def test_idle_connection_is_answered_once_more_and_told_to_close(holder: Holder) -> None:
    client = connect(holder)
    assert asked(client).getheader("Connection") != "close"
    stops_accepting(holder)
    answer = asked(client)
    assert (answer.status, answer.getheader("Connection")) == (200, "close")
    assert holder.instances[-1].wait(15) == 0


def test_connection_that_was_accepted_and_not_read_is_answered(holder: Holder) -> None:
    client = connect(holder)
    asked(connect(holder))  # accepted after ours: so ours was accepted too
    stops_accepting(holder)
    answer = asked(client)
    assert (answer.status, answer.getheader("Connection")) == (200, "close")


def test_idle_connection_is_closed_after_the_linger_and_the_app_exits(holder: Holder) -> None:
    client = connect(holder)
    asked(client)
    holder.instances[-1].send_signal(signal.SIGTERM)
    assert client.sock is not None and client.sock.recv(1) == b""
    assert holder.instances[-1].wait(15) == 0


def test_stream_in_flight_is_finished(holder: Holder) -> None:
    client = connect(holder)
    client.request("GET", "/stream?seconds=1.5")
    answer = client.getresponse()
    answer.read(1)
    holder.instances[-1].send_signal(signal.SIGTERM)
    assert answer.read().count(b"\n") >= 5  # http.client raises IncompleteRead where the last chunk is missing
    assert holder.instances[-1].wait(15) == 0


def started(app: list[str], port: int, **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(app, env={**os.environ, "PORT": str(port), **env}, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("app", [APPS[0], pytest.param(NODE_APP, id="node", marks=pytest.mark.full)])
@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        ("500", "5xx"),
        ("503", "5xx"),
        ("hang", "timeout"),
        ("garbage", None),
        ("wrong", None),
        ("crash-after-1", "refused"),
    ],
)
def test_each_way_to_be_broken(app: list[str], broken: str, seen: str | None) -> None:
    port = free_port()
    instance = started(app, port, BROKEN=broken, DEPLOYER_RELEASE="mine")
    try:
        wait_until(lambda: not socket.create_connection(("127.0.0.1", port)).close(), what="it listens")
        losses, releases = _asked_for_a_while(port)
    finally:
        instance.kill()
        instance.wait()
    assert seen is None or seen in losses, losses
    assert "mine" not in releases or broken.startswith("crash-after")


def _asked_for_a_while(port: int) -> tuple[set[str], set[str]]:
    program = Path(__file__).parent.parent.parent / "scripts" / "benchmarks" / "load.py"
    argv = [
        sys.executable,
        "-S",
        str(program),
        f"http://127.0.0.1:{port}",
        "--rate",
        "20",
        "--timeout",
        "0.5",
        "--for",
        "1.5",
    ]
    found = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)
    return {name for name, loss in found["losses"].items() if loss["count"]}, set(found["releases"])


@pytest.mark.parametrize("app", APPS)
def test_broken_one_that_exits_never_listens(app: list[str]) -> None:
    assert started(app, free_port(), BROKEN="exit").wait(20) == 1


@pytest.mark.parametrize("app", APPS)
def test_app_and_helper_are_an_artifact(app: list[str], tmp_path: Path) -> None:
    argv = copy_of(app, tmp_path)
    port = free_port()
    instance = subprocess.Popen(argv, cwd=tmp_path, env={"PATH": os.environ["PATH"], "PORT": str(port)})
    try:
        wait_until(lambda: not socket.create_connection(("127.0.0.1", port)).close(), what="it listens")
        instance.send_signal(signal.SIGTERM)
        assert instance.wait(20) == 0
    finally:
        instance.kill()
        instance.wait()


def test_boot_takes_its_time_and_python_3_9_will_do() -> None:
    python = Path("~/.pyenv/versions/3.9.18/bin/python").expanduser()
    if not python.exists():
        pytest.skip("no Python 3.9 here")
    port, at = free_port(), time.monotonic()
    instance = started([str(python), PYTHON_APP[-1]], port, BOOT="0.5")
    try:
        wait_until(lambda: not socket.create_connection(("127.0.0.1", port)).close(), what="it listens")
        assert time.monotonic() - at >= 0.5
        instance.send_signal(signal.SIGTERM)
        assert instance.wait(20) == 0
    finally:
        instance.kill()
        instance.wait()
