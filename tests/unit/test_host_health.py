"""One question to /health: what its answer means, and that no answer can hold it up or break it."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from deployer.host import health
from deployer.host.health import Answer, ask, read


@contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that lets *talk* deal with each connection; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                talk(connection)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/health"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def says(data: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    return talk


def drip(head: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)

    return talk


def enormous(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
    while True:
        connection.sendall(b" " * 1_000_000)


def silence(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.recv(65536)


OK = b"HTTP/1.1 200 OK\r\n\r\n"
TALKS = {
    "hangs": (silence, "timeout"),
    "drips its head": (drip(b"HTTP/1.1 2"), "timeout"),
    "drips its headers": (drip(b"HTTP/1.1 200 OK\r\nX: "), "timeout"),
    "drips its body": (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"), "timeout"),
    "speaks another language": (says(b"220 mail.example.com ESMTP\r\n"), "garbage"),
    "says nothing and goes": (says(b""), "closed"),
    "has endless headers": (says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), "garbage"),
    "has an endless header": (says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 99999 + b"\r\n\r\n"), "garbage"),
    "breaks off": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"), "ok"),
    "has a bad length": (says(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}"), "ok"),
    "has bad chunks": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "ok"),
    "is enormous": (enormous, "ok"),
    "redirects": (says(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n"), "http 302"),
    "is missing": (says(b"HTTP/1.1 404 Not Found\r\n\r\n"), "http 404"),
}


@pytest.mark.parametrize("how", TALKS)
def test_a_server_that_misbehaves_has_a_word_for_it_within_the_time(how: str) -> None:
    talk, word = TALKS[how]
    with server(talk) as url:
        started = time.monotonic()
        found = ask(url, 0.4)
        assert time.monotonic() - started < 10
    assert found.health == word and found.good == (word == "ok")


def test_a_closed_port_is_refused_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        started = time.monotonic()
        assert ask(f"http://127.0.0.1:{port}/", 30) == Answer("refused")
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1/", "http://" + "x" * 70 + ".invalid/"])
def test_a_url_that_leads_nowhere_raises_nothing(url: str) -> None:
    assert not ask(url, 1).good


def body(**said: object) -> bytes:
    return json.dumps(said).encode()


@pytest.mark.parametrize(
    ("status", "said", "word", "good"),
    [
        (200, b"", "ok", True),
        (200, b"fine", "ok", True),
        (204, b"", "ok", True),
        (200, body(status="ok"), "ok", True),
        (200, body(status="starting"), "starting", False),
        (503, body(status="starting"), "starting", False),
        (503, body(status="ok"), "ok", False),
        (503, body(status="shutting_down"), "shutting_down", False),
        (200, body(status="UP"), "UP", False),
        (200, body(status=7), "ok", True),
        (500, b"", "http 500", False),
        (200, b'["ok"]', "ok", True),
        (200, b"[" * 60000, "ok", True),
        (200, b'{"status": "o\xff"}', "ok", True),
    ],
)
def test_good_is_2xx_and_ok_where_a_status_is_told(status: int, said: bytes, word: str, good: bool) -> None:
    found = read(status, said)
    assert (found.health, found.good) == (word, good)


@pytest.mark.parametrize(
    ("said", "pointer", "busy"),
    [
        ({"busy": True}, None, True),
        ({"busy": 3}, None, 3),
        ({"busy": "yes"}, None, True),
        ({"busy": 1.5}, None, None),
        ({"tasks": [{"id": "a"}, {"id": "b"}]}, None, 2),
        ({"claudeBusy": True}, "/claudeBusy", True),
        ({"work": {"a/b": [0, 5]}}, "/work/a~1b/1", 5),
        ({"work": {"~": 1}}, "/work/~0", 1),
        ({"jobs": ["x", "y"]}, "/jobs", 2),
        ({"busy": True}, "/claudeBusy", None),
        ({"work": [1]}, "/work/9", None),
        ({"work": [1]}, "/work/x/y", None),
    ],
)
def test_busy_is_found_where_it_is(said: object, pointer: str | None, busy: object) -> None:
    assert read(200, json.dumps(said).encode(), pointer).busy == busy


def test_tasks_are_taken_in_whatever_shape_and_never_too_many() -> None:
    now = time.time()
    tasks = [
        {"id": 1, "name": "a", "started_at": now - 60},
        {"name": "b", "started_at": (now - 60) * 1000},
        {"name": "c", "started_at": "2001-01-01T00:00:00Z"},
        "d",
        {"name": ["not", "text"], "started_at": {}},
        17,
        None,
    ]
    found = read(200, body(tasks=tasks + ["x"] * 500)).tasks
    assert len(found) <= health.TASKS_LIMIT
    assert [task.get("name") for task in found[:5]] == ["a", "b", "c", "d", None]
    assert [task["age_s"] and 59 < task["age_s"] < 62 for task in found[:2]] == [True, True]
    assert found[2]["age_s"] > 1e8 and found[3]["age_s"] is None


def test_what_an_app_says_can_neither_drive_a_terminal_nor_break_our_json() -> None:
    said = (
        b'{"status": "\\u001b[2J", "release": "\\u001b]0;x\\u0007\\ud800", "tasks": [{"name": "\\u001b[31m\\nred",'
        b' "started_at": NaN}, {"name": "b", "started_at": Infinity}, {"id": -1e999}], "busy": 1' + b"0" * 4000 + b"}"
    )
    found = read(200, said)
    told = json.dumps([found.health, found.release, found.tasks, found.busy], ensure_ascii=False, allow_nan=False)
    assert "\x1b" not in told and "\x07" not in told and told.encode()
    assert all(task["age_s"] is None or math.isfinite(task["age_s"]) for task in found.tasks)


def test_an_error_page_says_nothing_about_work_and_an_answer_without_tasks_does() -> None:
    assert not read(503, b"<html>").speaks_of_work()
    assert not Answer("timeout").speaks_of_work()
    assert read(503, body(status="shutting_down")).speaks_of_work()
    assert read(200, b"").speaks_of_work()
    assert read(503, body(busy=1)).speaks_of_work()
