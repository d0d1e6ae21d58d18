"""`life.uvicorn`: a real server leaves, and whoever was connected is answered."""

from __future__ import annotations

import http.client
import json
import select
import socket
import time
from pathlib import Path

import pytest
from served import Served, inheriting, read, served, up
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from app import wait_until

pytestmark = pytest.mark.timeout(90)


def leaving(one: Served) -> None:
    """Told, and has heard it, as its private /health says."""
    one.told()
    wait_until(lambda: one.private()[1]["status"] == "shutting_down", what="it has heard it")


def test_idle_app_goes_at_once_and_cleans_up() -> None:
    with served() as one:
        up(one)
        at = time.monotonic()
        one.told()
        code, out, err = one.ends()
        assert (code, out) == (0, "shutdown 0\n") and "drained, 0 lost" in err
        assert time.monotonic() - at < 5  # the linger is for connections that are there


def test_work_and_streams_are_finished_before_the_lifespan_ends() -> None:
    with served() as one:
        assert up(one).ask("/later?4").status == 200
        task, slow, stream = one.line(path="/task?2"), one.line(path="/slow?2"), one.line(path="/stream?2")
        seen = wait_until(lambda: _busy(one, 4), what="all are in flight")
        assert sorted(each["name"] for each in seen["tasks"]) == ["GET request", "GET request", "later", "task"]
        one.told()
        assert read(task).status == read(slow).status == 200
        assert read(stream).body.endswith(b"more\nend\n")  # type: ignore[attr-defined]
        assert one.ends()[:2] == (0, "shutdown 0\n")


def test_what_outlasts_max_wait_is_named_and_the_lifespan_still_ends() -> None:
    with served(LIFE='{"max_wait": "500ms"}') as one:
        up(one)
        slow = one.line(path="/slow?60")
        wait_until(lambda: _busy(one, 1), what="it is at work")
        one.told()
        code, out, err = one.ends()
        assert (code, out) == (1, "shutdown 1\n") and "abandoned: GET request" in err
        slow.close()


def _busy(one: Served, count: int) -> dict[str, object] | None:
    said: dict[str, object] = json.loads(one.ask("/health").body)  # type: ignore[attr-defined]
    return said if said["busy"] == count else None


def test_kept_connection_is_answered_once_more_and_told_to_close(tmp_path: Path) -> None:
    with inheriting(tmp_path, LIFE='{"linger": "10s"}') as one:
        up(one)
        kept = one.line()
        assert read(kept).getheader("connection") is None
        leaving(one)
        kept.request("GET", "/task?0")  # ours to answer: accepted, and nobody else can
        answer = read(kept)
        assert (answer.status, answer.getheader("connection")) == (200, "close")
        assert one.ends()[0] == 0


def test_connection_that_never_asked_is_still_read(tmp_path: Path) -> None:
    with inheriting(tmp_path) as one:
        up(one)
        line = http.client.HTTPConnection("127.0.0.1", one.port, timeout=20)
        line.connect()
        one.ask()  # accepted after it
        leaving(one)
        line.request("GET", "/")
        assert read(line).status == 200
        assert one.ends()[0] == 0


def test_idle_connection_is_closed_after_the_linger() -> None:
    with served(LIFE='{"linger": "300ms", "unread": "600ms"}') as one:
        up(one)
        kept = one.line()
        read(kept)
        never = socket.create_connection(("127.0.0.1", one.port), timeout=20)
        slow = one.line(path="/task?6")
        wait_until(lambda: _busy(one, 1), what="it is at work")
        one.told()
        assert kept.sock.recv(1) == never.recv(1) == b""
        assert not select.select([slow.sock], [], [], 0)[0], "while work is in flight, and not when it ends"
        assert read(slow).status == 200
        assert one.ends()[0] == 0


def test_new_work_on_a_socket_of_our_own_is_sent_elsewhere() -> None:
    with served(LIFE='{"linger": "10s"}') as one:
        up(one)
        kept, busy = one.line(), one.line(path="/task?3")
        read(kept)
        wait_until(lambda: _busy(one, 1), what="it is busy")
        one.told()
        wait_until(lambda: _says_it_goes(kept), what="it has heard it")
        assert read(busy).status == 200
        assert one.ends()[0] == 0


def _says_it_goes(kept: http.client.HTTPConnection) -> bool:
    kept.request("GET", "/task?0")
    answer = read(kept)
    if answer.status == 200:
        return False
    assert (answer.status, answer.getheader("retry-after"), answer.getheader("connection")) == (503, "1", "close")
    assert json.loads(answer.body) == {"error": "shutting down"}  # type: ignore[attr-defined]
    return True


def test_websockets_are_told_to_come_back_and_new_ones_are_refused(tmp_path: Path) -> None:
    with inheriting(tmp_path, LIFE='{"linger": "500ms"}') as one:
        up(one)
        kept = socket.create_connection(("127.0.0.1", one.port), timeout=20)
        with connect(f"ws://127.0.0.1:{one.port}/") as talk:
            talk.send("hello")
            assert talk.recv() == "hello"
            leaving(one)
            with pytest.raises(InvalidStatus) as refused, connect(f"ws://127.0.0.1:{one.port}/", sock=kept):
                pass  # accepted before, asks now
            assert refused.value.response.status_code == 503
            with pytest.raises(ConnectionClosed) as closed:
                talk.recv(timeout=20)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
        assert one.ends()[:2] == (0, "disconnect 1001\nshutdown 0\n")


def test_gate_proves_first_and_accepts_when_told(tmp_path: Path) -> None:
    with inheriting(tmp_path, DEPLOYER_GATE="1", BOOT="0.3") as one:
        wait_until(lambda: one.private()[1]["status"] == "ok", what="it is up")
        with socket.create_connection(("127.0.0.1", one.port)) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            line.settimeout(0.5)
            with pytest.raises(TimeoutError):
                line.recv(1)
            assert one.private("/serve", "POST")[0] == 200
            line.settimeout(20)
            assert line.recv(12) == b"HTTP/1.1 200"
        one.told()
        assert one.ends()[0] == 0


def test_told_before_the_gate_opened_it_leaves_without_ever_accepting(tmp_path: Path) -> None:
    with inheriting(tmp_path, DEPLOYER_GATE="1") as one:
        wait_until(lambda: one.private()[1]["status"] == "ok", what="it is up")
        one.told()
        assert one.ends()[:2] == (0, "shutdown 0\n")


def test_starting_until_the_lifespan_is_through(tmp_path: Path) -> None:
    with inheriting(tmp_path, BOOT="1.5") as one:
        first = wait_until(one.private, what="it answers privately")
        assert first[0] == 503 and first[1]["status"] == "starting"
        wait_until(lambda: one.private()[0] == 200, what="it is up")


def test_blocked_loop_is_work_and_not_idle(tmp_path: Path) -> None:
    with inheriting(tmp_path) as one:
        up(one)
        blocked = one.line(path="/block?4")
        _, said = wait_until(lambda: _stuck(one), what="it is seen")
        assert [task["id"] for task in said["tasks"]][-1:] == ["loop"] and said["busy"] == len(said["tasks"])
        one.told()
        wait_until(lambda: one.private()[1]["status"] == "shutting_down", within=3, what="told while it is blocked")
        assert read(blocked).status == 200
        assert one.ends()[0] == 0


def _stuck(one: Served) -> tuple[int, dict[str, object]] | None:
    code, said = one.private()
    return (code, said) if said.get("stuck", 0) > 1 else None
