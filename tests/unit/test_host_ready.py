"""Ready is proven by the process that we started: nobody else's answer counts, and one good answer is no streak."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app import free_port
from deployer.host.clock import Clock
from deployer.host.process import Processes
from deployer.host.ready import NotReady, Proof, Prover, is_here


class Told:
    """A supervisor that knows one instance, made of *pids*, until it is told otherwise."""

    def __init__(self, *pids: int) -> None:
        self.instances = [{"id": "new", "pid": pids[0], "processes": [{"pid": pid} for pid in pids]}]
        self.desired: dict[str, Any] = {"id": "new", "state": "running"}

    def status(self) -> dict[str, Any]:
        return {"instances": self.instances, "desired": self.desired}

    def wait(self, deadline: float) -> None:
        time.sleep(max(0.0, deadline - time.monotonic()))


def prove(told: Told, port: int | None, url: str | None = "http://127.0.0.1:{port}/health", **more: Any) -> Proof:
    table = {
        "url": url,
        "interval": 0.02,
        "timeout": 0.3,
        "ready_within": 0.5,
        "streak": 2,
        "busy": None,
        "alive_for": 0.1,
    }
    return Prover(told, {**table, **more}, port, Clock(), Processes()).prove("new")  # type: ignore[arg-type]


def why(told: Told, port: int | None, **more: Any) -> str:
    with pytest.raises(NotReady) as caught:
        prove(told, port, **more)
    return str(caught.value)


@contextmanager
def answering(*codes: int, pid: int | None = None, port: int = 0, reuse: bool = False) -> Iterator[int]:
    """A server in this very process that answers with *codes* in turn, the last one for ever; yields its port."""
    left = list(codes)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code = left.pop(0) if len(left) > 1 else left[0]
            body = json.dumps({"pid": pid} if pid else {}).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def server_bind(self) -> None:
            if reuse:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            super().server_bind()

    server = Server(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def sleeper() -> Iterator[int]:
    child = subprocess.Popen(["sleep", "60"])
    yield child.pid
    child.kill()
    child.wait()


def test_streak_starts_anew_after_a_bad_answer() -> None:
    with answering(200, 503, 200, 200, 503, 200) as port:
        proof = prove(Told(os.getpid()), port, streak=3, ready_within=5)
    assert proof.probes == 8 and proof.pid == os.getpid()


def test_a_good_answer_of_somebody_else_proves_nothing(sleeper: int) -> None:
    with answering(200) as port:
        told = why(Told(sleeper), port)
    assert f"answered by pid {os.getpid()}" in told and "not by the new process" in told


LISTENS_TOO = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen()
print(flush=True)
sys.stdin.read()
"""


def test_an_answer_on_a_port_that_both_listen_on_proves_nothing() -> None:
    with answering(200, reuse=True) as port:
        argv = [sys.executable, "-S", "-c", LISTENS_TOO, str(port)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as new:
            assert new.stdout is not None and new.stdout.readline()
            why(Told(new.pid), port, streak=1)  # half of the answers are good, and none is its own
            new.communicate()


def test_a_shared_socket_answered_by_its_other_holder_proves_nothing() -> None:
    with answering(200, pid=os.getpid()) as port:
        held = next(fd for fd in os.listdir("/proc/self/fd") if _is_listening(int(fd), port))
        with subprocess.Popen(["sleep", "60"], pass_fds=[int(held)]) as new:
            assert f"answered by pid {os.getpid()}" in why(Told(new.pid), port)
            new.kill()


def _is_listening(fd: int, port: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as found:
            return (
                found.getsockname()[1:2] == (port,) and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            )
    except (OSError, IndexError, TypeError):
        return False


def test_an_exit_is_told_with_its_code_at_once() -> None:
    told = Told(os.getpid())
    told.instances, told.desired = [], {"id": "new", "state": "ended", "exit_code": 4}
    started = time.monotonic()
    assert why(told, free_port(), ready_within=30) == "it exited with code 4 before it was ready"
    told.desired["exit_code"] = -9
    assert "by signal 9" in why(told, free_port(), ready_within=30)
    told.desired.update(exit_code=None, error="run 'nod': No such file or directory")
    assert "could not be started: run 'nod'" in why(told, free_port(), ready_within=30)
    assert time.monotonic() - started < 25


def test_without_a_url_it_is_alive_long_enough_and_accepts_where_a_port_is_known(sleeper: int) -> None:
    assert prove(Told(sleeper), None, url=None).took_s >= 0.1
    assert "does not listen" in why(Told(sleeper), free_port(), url=None)
    with answering(200) as port:
        assert prove(Told(os.getpid()), port, url=None).took_s >= 0.1
        assert "does not listen" in why(Told(sleeper), port, url=None)


def test_the_reason_names_the_port_that_it_listens_on_instead() -> None:
    with answering(200) as port:
        told = why(Told(os.getpid()), free_port())
    assert "refused" in told and str(port) in told and "0.5 s allowed" in told


def test_only_the_loopback_is_looked_at_for_strangers() -> None:
    assert all(map(is_here, ["http://localhost:1/", "http://127.0.0.2/", "http://[::1]:5/x"]))
    assert not any(map(is_here, ["https://agent.example.com/health", "http://10.0.0.1:3001/"]))
