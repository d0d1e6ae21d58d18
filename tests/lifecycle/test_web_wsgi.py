"""WSGI, ASGI and gunicorn: what an app says while it leaves, and what is counted until when."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from fastapi import FastAPI
from flask import Flask
from served import Served, _running, read, served, up

from app import free_port, wait_until
from deployer.lifecycle import Lifecycle, ShuttingDown

REFUSAL = ("503 Service Unavailable", "1", {"error": "shutting down"})


class Called:
    """One request to a WSGI *app*, as a server makes it: up to the first piece, then `rest` to the end."""

    def __init__(self, app: Any, path: str = "/", server: str = "gunicorn") -> None:
        self._started: list[Any] = []
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_SOFTWARE": server, "wsgi.url_scheme": "http"}
        environ |= {"SERVER_NAME": "x", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "QUERY_STRING": ""}
        self.body = app(environ, lambda status, headers, _error=None: self._started.append((status, dict(headers))))
        self._pieces = iter(self.body)
        self.first = next(self._pieces, b"")
        self.status, self.headers = self._started[-1]

    def rest(self) -> bytes:
        whole = self.first + b"".join(self._pieces)
        getattr(self.body, "close", lambda: None)()
        return whole


@pytest.fixture
def life() -> Iterator[Lifecycle]:
    made = Lifecycle(signals=(), max_wait="10s")
    made.start()
    yield made
    made.stop("the test is over")


def goes(life: Lifecycle) -> threading.Thread:
    """Told to leave by a thread, which waits for what is in flight; returns once it has been told."""
    thread = threading.Thread(target=life.stop, args=("test",), daemon=True)
    thread.start()
    wait_until(lambda: life.shutting_down, what="told")
    return thread


def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    if environ["PATH_INFO"] == "/late":
        start_response("200 OK", [])
    if environ["PATH_INFO"] != "/":
        raise ShuttingDown("no")
    start_response("200 OK", [("Connection", "keep-alive")])
    yield b"a"
    yield b"b"


def test_wsgi_is_counted_until_its_body_is_closed(life: Lifecycle) -> None:
    one = Called(life.wsgi(plain))
    assert one.headers == {"Connection": "keep-alive"} and life.busy == 1
    assert one.rest() == b"ab" and life.busy == 0


def test_wsgi_leaving(life: Lifecycle) -> None:
    app = life.wsgi(plain)
    with life.task("something"):
        goes(life)
        closed, bare = Called(app), Called(app, server="waitress")
        assert (closed.headers, bare.headers) == ({"Connection": "close"}, {}), "waitress and wsgiref break over it"
        assert closed.rest() == bare.rest() == b"ab"
        refused = Called(app, "/refuse")
        assert (refused.status, refused.headers["Retry-After"], json.loads(refused.rest())) == REFUSAL
        with pytest.raises(ShuttingDown):
            Called(app, "/late")
        health = Called(app, "/health")
        said = json.loads(health.rest())
        assert health.status.startswith("503") and said["status"] == "shutting_down"
        assert [task["name"] for task in said["tasks"]] == ["something"]


def test_request_that_comes_while_we_leave_may_work_only_where_nobody_else_can(
    life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def works(_environ: Any, start_response: Any) -> list[bytes]:
        with life.task("work"):
            start_response("200 OK", [])
            return [b"done"]

    with life.task("something"):
        goes(life)
        seen = [Called(life.wsgi(works, admit=admit)) for admit in (None, True, False)]
        monkeypatch.setenv("LISTEN_FDNAMES", "http")
        seen.append(Called(life.wsgi(works)))
        assert [one.status[:3] for one in seen] == ["503", "200", "503", "200"]
        assert [len(one.rest()) > 0 for one in seen] == [True] * 4


def test_flask_refuses_with_503_and_not_500(life: Lifecycle) -> None:
    app = Flask("t")
    app.wsgi_app = life.wsgi(app.wsgi_app)  # type: ignore[method-assign]

    @app.get("/work")
    @life.task("work")
    def work() -> str:
        return "done"

    assert app.test_client().get("/work", buffered=True).data == b"done"
    with life.task("something"):
        goes(life)
        answer = app.test_client().get("/work", buffered=True)
    assert (answer.status, answer.headers["Retry-After"], answer.json) == ("503 SERVICE UNAVAILABLE", "1", REFUSAL[2])


def test_fastapi_refuses_with_503_and_not_500(life: Lifecycle) -> None:
    app = FastAPI()
    wrapped = life.asgi(app)

    @app.get("/work")
    async def work() -> str:
        async with life.task("work"):
            return "done"

    assert asyncio.run(sent(wrapped, "/work"))[0]["status"] == 200
    with life.task("something"):
        goes(life)
        start, body = asyncio.run(sent(wrapped, "/work"))
        http2 = asyncio.run(sent(wrapped, "/health", http_version="2"))[0]
    headers = dict(start["headers"])
    assert (start["status"], headers[b"retry-after"], headers[b"connection"]) == (503, b"1", b"close")
    assert json.loads(body["body"]) == REFUSAL[2]
    assert b"connection" not in dict(http2["headers"]), "there is no such header in HTTP/2"


async def sent(app: Any, path: str, **more: Any) -> list[Any]:
    """The messages with which *app* answers a GET."""
    said: list[Any] = []
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], **more}

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    await app(scope, receive, send)
    return said


def test_wsgiref_serves_it(life: Lifecycle) -> None:
    """The strictest of them: it checks what an app may say."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with make_server("127.0.0.1", 0, life.wsgi(plain), handler_class=Quiet) as server:
        with life.task("something"):
            goes(life)
            threading.Thread(target=server.handle_request, daemon=True).start()
            line = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
            line.request("GET", "/health")
            answer = read(line)
        assert answer.status == 503 and json.loads(answer.body)["tasks"]  # type: ignore[attr-defined]


GUNICORN = """
import os, sys, threading, time
from deployer.lifecycle import Lifecycle
life = Lifecycle(max_wait="20s")
life.cleanup(lambda: print("cleaned", os.getpid(), flush=True), name="note")
def later():
    with life.task("afterwards", part=True):
        time.sleep(3)
        open(os.environ["NOTE"], "w").close()
    print("afterwards", flush=True)
def app(environ, start_response):
    if environ["PATH_INFO"] == "/later":
        threading.Thread(target=later).start()
        time.sleep(0.1)
    if environ["PATH_INFO"] == "/slow":
        time.sleep(2)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
application = life.wsgi(app)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)])
def test_gunicorn_worker_finishes_what_it_began_and_cleans_up(tmp_path: Path, number: int) -> None:
    (tmp_path / "module.py").write_text(GUNICORN)
    (tmp_path / "gunicorn.conf.py").write_text("from deployer.lifecycle.gunicorn import *\nworkers = 1\n")
    port = free_port()
    argv = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "--chdir", str(tmp_path)]
    argv += ["-c", str(tmp_path / "gunicorn.conf.py"), "module"]
    note = tmp_path / "afterwards"
    with _running(argv, {"NOTE": str(note)}) as process:
        one = up(Served(process, port))
        assert one.ask("/later").status == 200
        slow = one.line(path="/slow")
        wait_until(lambda: json.loads(one.ask("/health").body)["busy"] == 2, what="both are in flight")  # type: ignore[attr-defined]
        at = time.monotonic()
        if number == signal.SIGTERM:
            one.told()
        else:
            _children_of(process)  # Ctrl-C reaches the whole group; gunicorn's own worker would cut
        wait_until(lambda: not _answers(port), what="it accepts no longer")
        assert not note.exists(), "it stops accepting at once, and not after its work"
        assert read(slow).status == 200
        code, out, err = one.ends()
    assert code == 0 and time.monotonic() - at < 25
    assert [line.split()[0] for line in out.splitlines()] == ["afterwards", "cleaned"]
    assert "drained, 0 lost" in err


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.3) as line:
            line.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(line.recv(1))
    except OSError:
        return False


def _children_of(process: subprocess.Popen[str]) -> None:
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(pid), signal.SIGINT)
    process.terminate()


def test_gunicorn_says_where_an_app_has_no_lifecycle() -> None:
    from deployer.lifecycle import gunicorn

    with pytest.raises(TypeError, match=r"write `app\.wsgi_app = life\.wsgi"):
        gunicorn._life_of(plain)


def test_settings_that_cannot_drain_are_refused() -> None:
    with pytest.raises(ValueError, match="workers starts processes of its own"):
        Lifecycle().uvicorn(plain, workers=2)


PYTHONS = [
    pytest.param("3.9.18", id="3.9"),
    pytest.param(None, id="ours"),
    pytest.param("3.13.0", id="3.13", marks=pytest.mark.full),
]


def python(version: str | None) -> str:
    """Its interpreter, where this machine has it."""
    found = Path(f"~/.pyenv/versions/{version}/bin/python").expanduser() if version else Path(sys.executable)
    if not found.exists():
        pytest.skip(f"no Python {version} here")
    return str(found)


@pytest.mark.parametrize("version", PYTHONS)
def test_http_server_leaves_as_a_lame_duck(version: str | None) -> None:
    with served("http_server_app.py", python(version)) as one:
        up(one)
        kept, idle, slow = one.line(), one.line(), one.line(path="/slow")
        assert read(kept).getheader("connection") is None and read(idle).status == 200
        wait_until(lambda: json.loads(one.ask("/health").body)["busy"] > 0, what="it is at work")  # type: ignore[attr-defined]
        one.told()
        wait_until(lambda: _refused(one.port), what="it accepts no longer")
        kept.request("GET", "/")
        answer = read(kept)
        assert (answer.status, answer.getheader("connection")) == (200, "close")
        assert idle.sock.recv(1) == b""
        assert read(slow).status == 200
        assert one.ends()[0] == 0


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("version", PYTHONS)
def test_streams_server_waits_for_its_handlers(version: str | None) -> None:
    with served("streams_app.py", python(version)) as one:
        up(one)
        kept, slow = one.line(), one.line(path="/slow")
        read(kept)
        wait_until(lambda: json.loads(one.ask("/health").body)["busy"], what="it is at work")  # type: ignore[attr-defined]
        one.told()
        assert kept.sock.recv(1) == b""
        assert not select.select([slow.sock], [], [], 0)[0], "after the linger, and not at the end"
        assert read(slow).status == 200
        assert one.ends()[0] == 0
