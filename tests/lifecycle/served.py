"""One process of an app under a Lifecycle, on a socket of its own or on inherited ones, ended by its pid at the end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app import SOURCE, free_port, wait_until

HERE = Path(__file__).parent
# Moved out of the way of 3 and 4 first; exec keeps the pid, so that LISTEN_PID is the app's.
AS_FDS = """import fcntl, os, sys
names, fds = sys.argv[1], [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[2].split(",")]
for number, fd in enumerate(fds): os.dup2(fd, 3 + number)
env = {**os.environ, "LISTEN_FDS": str(len(fds)), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names}
os.execvpe(sys.argv[3], sys.argv[3:], env)"""


class Served:
    """`url` and `port` are the public ones; `private` asks the socket named `health`, where there is one."""

    def __init__(self, process: subprocess.Popen[str], port: int, private: socket.socket | None = None) -> None:
        self.process, self.port, self._private = process, port, private

    def line(self, method: str = "GET", path: str = "/") -> http.client.HTTPConnection:
        """A connection on which *path* has been asked for; the answer is to be read."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        line.request(method, path)
        return line

    def ask(self, path: str = "/", method: str = "GET") -> http.client.HTTPResponse:
        """The answer, with `body`, on a connection of its own."""
        return read(self.line(method, path))

    def private(self, path: str = "/health", method: str = "GET") -> tuple[int, Any]:
        assert self._private is not None
        return ask_at(self._private.getsockname(), path, method)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        return self.ask().status == 200

    def told(self) -> None:
        """SIGTERM, and it has been heard: new connections stay in the queue, or are refused."""
        self.process.send_signal(signal.SIGTERM)

    def ends(self, within: float = 30) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=within)
        return self.process.returncode, out, err


def read(line: http.client.HTTPConnection) -> http.client.HTTPResponse:
    answer = line.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    return answer


def ask_at(address: Any, path: str = "/health", method: str = "GET", timeout: float = 20) -> tuple[int, Any]:
    """Status and JSON of one request to *address*: a (host, port), or the path of a Unix socket."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as line:
        line.settimeout(timeout)
        line.connect(address)
        line.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: line.recv(65536), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@contextmanager
def served(program: str = "web_app.py", python: str = sys.executable, **env: str) -> Iterator[Served]:
    """The program on $PORT, a socket of its own."""
    port = free_port()
    with _running([python, str(HERE / program)], {"PORT": str(port), **env}) as process:
        yield Served(process, port)


@contextmanager
def inheriting(directory: Path, program: str = "web_app.py", **env: str) -> Iterator[Served]:
    """The program on two inherited sockets, `http` and `health`."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as public, socket.socket(socket.AF_UNIX) as private:
        private.bind(str(directory / "health.sock"))
        private.listen(64)
        fds = (public.fileno(), private.fileno())
        argv = [sys.executable, "-S", "-c", AS_FDS, "http:health", ",".join(map(str, fds)), sys.executable]
        with _running([*argv, str(HERE / program)], env, pass_fds=fds) as process:
            yield Served(process, public.getsockname()[1], private)


@contextmanager
def _running(argv: list[str], env: dict[str, str], **more: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        argv, env={**os.environ, "PYTHONPATH": str(SOURCE), **env}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **more,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def up(one: Served) -> Served:
    wait_until(one.answers, what="it answers")
    return one
