"""The load generator tells every kind of loss from the others, and sends on schedule whatever the answers do."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import alive, wait_until
from load import Figures, Load

GOOD = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"release":"a"}'
CLOSING = GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"
BROKEN = b"HTTP/1.1 503 Nope\r\nContent-Length: 2\r\n\r\nno"
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"r\r\nc\r\nelease":"b"}\r\n0\r\n\r\n'


class Server:
    """Answers each request as `behave(client, number)` does; `number` counts the requests on that connection, from 1."""

    def __init__(self, address: Any = ("127.0.0.1", 0)) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.behave: Callable[[socket.socket, int], None] = good
        self.asked = 0
        self._listener = socket.socket(family)
        self._listener.bind(address)
        self._listener.listen(100)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        name = self._listener.getsockname()
        return f"unix:{name}" if isinstance(name, str) else f"http://127.0.0.1:{name[1]}"

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        number = 0
        with client:
            try:
                while client.recv(65536):
                    number += 1
                    self.asked += 1
                    self.behave(client, number)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # ends its accept(); nobody else has this socket
        self._listener.close()


def says(answer: bytes) -> Callable[[socket.socket, int], None]:
    return lambda client, number: client.sendall(answer)


def good(client: socket.socket, number: int) -> None:
    client.sendall(GOOD)


def closes(client: socket.socket, number: int) -> None:
    client.close()


def resets(client: socket.socket, number: int) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def cuts(client: socket.socket, number: int) -> None:
    client.sendall(HALF)
    client.close()


def closes_the_second(client: socket.socket, number: int) -> None:
    client.sendall(GOOD) if number == 1 else client.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def losses(server: Server, behave: Callable[[socket.socket, int], None], **options: float) -> Figures:
    """What the load saw once *behave* has had twenty requests; before, all is well."""
    with Load(server.url, **{"rate": 100, "kept": 4, "timeout": 20, **options}) as load:
        server.behave = behave
        asked = server.asked
        wait_until(lambda: server.asked > asked + 20, what="it is asked")
        server.behave = good
        return load.stop()


@pytest.mark.parametrize(
    ("behave", "share", "loss"),
    [
        (resets, 1.0, "reset"),
        (resets, 0.0, "reset"),
        (closes, 1.0, "eof_fresh"),
        (closes_the_second, 0.0, "eof_reused"),
        (cuts, 0.5, "cut"),
        (says(BROKEN), 0.5, "5xx"),
        (says(b"SSH-2.0-x\r\n"), 0.5, "other"),
        (says(GOOD.replace(b"200", b"404")), 0.5, "other"),
    ],
)
def test_each_loss_has_its_class(
    server: Server, behave: Callable[[socket.socket, int], None], share: float, loss: str
) -> None:
    seen = losses(server, behave, fresh_share=share)
    assert set(seen.losses) == {loss}, seen.examples
    kinds = {1.0: {"fresh"}, 0.0: {"kept", "fresh"}, 0.5: {"kept", "fresh"}}[share]
    assert {example["connection"] for example in seen.examples} <= kinds
    assert seen.sent > seen.lost > 0


def test_silent_server_is_a_timeout(server: Server) -> None:
    assert set(losses(server, lambda client, number: None, timeout=0.3).losses) == {"timeout"}


def test_closed_port_is_refused_and_the_stall_is_as_long_as_it_was_closed(server: Server) -> None:
    with Load(server.url, rate=100, fresh_share=1) as load:
        address = server._listener.getsockname()
        load.mark("closed")
        closed_at = time.monotonic()
        server.close()
        time.sleep(0.5)  # the length of the outage itself
        again = socket.socket()
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(address)
        again.listen(100)
        was = time.monotonic() - closed_at
        server._listener = again
        threading.Thread(target=server._accept, daemon=True).start()
        asked = server.asked
        wait_until(lambda: server.asked > asked + 5, what="it is asked again")
        load.mark("open")
        seen = load.stop()
    assert set(seen.losses) == {"refused"}
    assert seen.phases["closed"].losses["refused"] > 20 and seen.phases["start"].lost == 0
    assert 450 < seen.longest_stall_ms < 1000 * was + 1000
    closed = seen.phases["closed"].longest_stall_ms  # a phase has the part of a stall that lies in it
    assert seen.longest_stall_ms - 100 < closed <= seen.longest_stall_ms


def test_phase_that_is_marked_again_goes_on(server: Server) -> None:
    with Load(server.url, rate=200, fresh_share=1) as load:
        for name in ("calm", "storm", "calm", "storm"):
            load.mark(name)
            asked = server.asked
            wait_until(lambda least=asked + 40: server.asked > least, what="it is asked")
        seen = load.stop()
    assert list(seen.phases) == ["start", "calm", "storm"]
    assert sum(phase.sent for phase in seen.phases.values()) == seen.sent
    seconds = [phase.raw["seconds"] for phase in seen.phases.values()]
    assert abs(sum(seconds) - seen.raw["seconds"]) < 0.01  # all of both times, and none of what lies between


def test_orderly_close_of_a_kept_connection_is_no_loss(server: Server) -> None:
    def told(client: socket.socket, number: int) -> None:
        client.sendall(CLOSING)
        client.close()

    seen = losses(server, told, fresh_share=0)
    assert seen.losses == {} and seen.raw["connections"]["told_to_close"] > 0


def test_all_is_well_with_all_kinds_of_answers(server: Server) -> None:
    seen = losses(server, says(CHUNKED), slow_rate=5, slow_seconds=0.1)
    assert seen.losses == {}
    assert set(seen.releases) == {"a", "b"} and sum(seen.releases.values()) == seen.sent
    assert all(found["sent"] for found in seen.raw["kinds"].values())
    assert seen.raw["latency_ms"]["max"] >= seen.raw["latency_ms"]["p99"] >= seen.raw["latency_ms"]["p50"] > 0


def test_slow_answers_do_not_slow_the_schedule(server: Server) -> None:
    def slow(client: socket.socket, number: int) -> None:
        time.sleep(0.5)  # the service, not the test
        client.sendall(GOOD)

    server.behave = slow
    with Load(server.url, rate=50, kept=2) as load:
        asked, at = server.asked, time.monotonic()
        wait_until(lambda: server.asked >= asked + 50, what="fifty more were sent")
        took = time.monotonic() - at
        seen = load.stop()
    assert took < 5  # in step with the answers, two kept connections would have needed 6 s for their half
    assert seen.losses == {} and seen.raw["connections"]["no_kept_free"] > 0
    assert seen.raw["latency_ms"]["p50"] > 450


def test_unix_socket(tmp_path: Path) -> None:
    server = Server(str(tmp_path / "s"))
    seen = losses(server, closes_the_second)
    assert set(seen.losses) == {"eof_reused"}
    with Load(server.url, rate=50) as load:
        server.close()
        os.unlink(tmp_path / "s")
        time.sleep(0.2)  # some requests into the void
        assert set(load.stop().losses) >= {"refused"}


def test_load_whose_test_has_died_ends(server: Server) -> None:
    with Load(server.url, rate=20) as load:
        assert load._process.stdin is not None and load._process.stdout is not None
        load._process.stdin.close()
        wait_until(lambda: not alive(load.pid), what="it has ended")
        assert json.loads(load._process.stdout.read())["sent"] > 0
        load._process.send_signal(signal.SIGTERM)


def test_nobody_there_is_said_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with (
            pytest.raises(AssertionError, match="no answer"),
            Load(f"http://127.0.0.1:{closed.getsockname()[1]}", **{"for": 0.3}),
        ):
            pass
