"""HTTP and the stream of events: answers, limits, strangers, tokens, readers that do not read."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from registries import RawNode, Serving, deployer, serving, wait_until
from websockets.exceptions import InvalidStatus

from deployer.registry.settings import Settings


@pytest.fixture(scope="module")
def registry() -> Iterator[Serving]:
    with serving("--timeout", "60s") as made:
        yield made


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    file = tmp_path_factory.mktemp("tokens") / "node"
    file.write_text("node-secret\n")
    file.chmod(0o600)
    with serving("--node-token-file", str(file), environment={"DEPLOYER_REGISTRY_ADMIN_TOKEN": "admin-secret"}) as made:
        yield made


class Stream:
    """A reader of /events."""

    def __init__(self, registry: Serving, last: int | None = None, reads: int | None = None) -> None:
        self._wire = http.client.HTTPConnection(*registry.address.split(":"), timeout=20)
        self._wire.sock = socket.socket()
        if reads is not None:
            self._wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, reads)
        self._wire.sock.settimeout(20)
        self._wire.sock.connect(("127.0.0.1", registry.port))
        self._wire.request("GET", "/events", headers={} if last is None else {"Last-Event-ID": str(last)})
        self._answer = self._wire.getresponse()
        assert self._answer.status == 200

    def close(self) -> None:
        self._answer.close()
        self._wire.close()

    def next(self) -> tuple[str, int, Any]:
        """Name, number and data of the next event."""
        found: dict[str, str] = {}
        while "data" not in found:
            line = self._answer.readline().decode()
            assert line, "the stream has ended"
            key, colon, value = line.strip().partition(": ")
            if colon and key in ("event", "id", "data"):
                found[key] = value
        return found["event"], int(found["id"]), json.loads(found["data"])

    def until(self, name: str, node: str) -> tuple[int, Any]:
        while True:
            event, number, data = self.next()
            if event == name and data.get("id") == node:
                return number, data


def said(sock: socket.socket) -> bytes:
    """Everything until the other side closes."""
    found = b""
    while piece := sock.recv(65536):
        found += piece
    return found


def test_pool_is_listed_with_the_least_busy_first(registry: Serving) -> None:
    crowd = [registry.node(f"p{busy}", pools=["sorted"], busy=busy) for busy in (3, 1, 2)]
    assert registry.get("/pools/sorted") == {"pool": "sorted", "nodes": ["p1", "p2", "p3"]}
    assert {"pool": "sorted", "nodes": ["p1", "p2", "p3"]} in registry.get("/pools")
    for node in crowd:
        node.stop()
    wait_until(lambda: registry.get("/pools/sorted")["nodes"] == [], "all have left")


def test_pool_that_nobody_named_is_empty_and_no_error(registry: Serving) -> None:
    assert registry.ask("GET", "/pools/none") == (200, {"pool": "none", "nodes": []})


def test_node_with_odd_characters_is_found_by_its_quoted_name(registry: Serving) -> None:
    node = registry.node("a/b ü?")
    assert registry.get("/nodes/a%2Fb%20%C3%BC%3F")["id"] == "a/b ü?"
    node.stop()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("GET", "/nodes/unknown", None, 404),
        ("POST", "/nodes/unknown/drain", None, 404),
        ("DELETE", "/nodes/unknown/drain", None, 404),
        ("POST", "/nodes", None, 405),
        ("GET", "/nodes/http/drain", None, 405),
        ("POST", "/nodes/http/drain", b"{", 400),
        ("POST", "/nodes/http/drain", b"[" * 50_000, 400),
        ("POST", "/nodes/http/drain", {"scope": "galaxy"}, 400),
        ("POST", "/nodes/http/drain", b"x" * 100_000, 413),
        ("GET", "/", None, 426),
    ],
)
def test_wrong_request_is_told_so(registry: Serving, method: str, path: str, body: Any, status: int) -> None:
    node = registry.node("http")
    code, answer = registry.ask(method, path, body)
    assert code == status and answer["error"]
    assert registry.get("/nodes/http")["drain"] is None
    node.stop()


def test_answers_of_one_connection_come_in_order_and_head_has_no_body(registry: Serving) -> None:
    ask = "{} /health HTTP/1.1\r\nHost: {}\r\n{}\r\n"
    both = ask.format("HEAD", registry.address, "") + ask.format("GET", registry.address, "Connection: close\r\n")
    head, _, rest = said(registry.raw(both.encode())).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and rest.startswith(b"HTTP/1.1 200")
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["status"] == "ok"


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"GET /" + b"a" * 40_000, b"431"), (b"\x16\x03\x01 hello\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\nBad Header\r\n\r\n", b"400"),
     (b"GET / HTTP/1.1\r\n\r\n", b"400")],
    ids=["huge head", "TLS", "bad header", "no host"],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_closed(registry: Serving, sent: bytes, status: bytes) -> None:
    answer = said(registry.raw(sent))
    assert answer.startswith(b"HTTP/1.1 " + status)


def test_one_that_asks_without_end_and_never_reads_keeps_nobody_waiting(registry: Serving) -> None:
    crowd = [registry.node(f"listed-{number:03}") for number in range(60)]  # more than one piece of a list
    greedy = registry.raw()
    greedy.settimeout(1)
    with pytest.raises(TimeoutError):
        while True:
            greedy.sendall(f"GET /nodes HTTP/1.1\r\nHost: {registry.address}\r\n\r\n".encode() * 100)
    ids = [node["id"] for node in registry.get("/nodes")]
    assert ids == sorted(ids) and ids.count("listed-059") == 1
    answers = said_for(greedy, 200_000)
    assert answers.count(b"HTTP/1.1 200 OK") >= 2, "it is served on as soon as it reads"
    for node in crowd:
        node.cut()


def said_for(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or all that come before the other side stops."""
    found = b""
    while len(found) < size and (piece := sock.recv(65536)):
        found += piece
    return found


def test_what_happens_during_a_long_snapshot_waits_behind_it(registry: Serving) -> None:
    fat = [{"id": "x" * 200, "name": "y" * 200} for _ in range(100)]
    crowd = [registry.node(f"snap-{number:03}", tasks=fat) for number in range(60)]
    stream = Stream(registry, reads=4096)  # so little that the snapshot is not whole before we read
    after = len(registry.events)
    crowd[0].stop()
    registry.event("node.offline", "snap-000", after)
    name, number, snapshot = stream.next()
    assert name == "snapshot" and len([node for node in snapshot["nodes"] if node["id"].startswith("snap-")]) == 60
    assert stream.until("node.offline", "snap-000")[0] > number
    for node in crowd[1:]:
        node.cut()


@pytest.mark.slow
def test_slow_senders_are_cut_off(registry: Serving) -> None:
    # The limit is 10 s: all wait for it beside each other.
    half = b"POST /nodes/x/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n{"
    slow = [registry.raw(sent) for sent in (b"", b"GET /nodes HT", half)]
    silent = registry.node("never", register=False)
    assert [said(sock) for sock in slow] == [b"", b"", b""]
    assert silent.told_to_go() == (4002, "no register message in time")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:7070"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:7070"}, 200),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_web_page_gets_nothing_from_a_registry_without_tokens(
    registry: Serving, method: str, headers: dict[str, str], status: int
) -> None:
    node = registry.node("web")
    path = "/nodes/web/resume" if method == "POST" else "/nodes"
    assert registry.ask(method, path, **headers)[0] == status
    node.stop()


def test_web_page_cannot_register_a_node(registry: Serving) -> None:
    handshake = (
        f"GET / HTTP/1.1\r\nHost: {registry.address}\r\nOrigin: http://evil.example\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\nConnection: close\r\n\r\n"
    )
    with registry.raw(handshake.encode()) as sock:
        assert sock.recv(4096).startswith(b"HTTP/1.1 403")


def test_tokens_open_each_its_own_door(guarded: Serving) -> None:
    for token in (None, "wrong"):
        with pytest.raises(InvalidStatus, match="401"):
            RawNode(guarded.address, "n", token=token)
    RawNode(guarded.address, "n", token="node-secret")
    RawNode(guarded.address, "m", token="admin-secret")
    assert [guarded.ask("GET", "/nodes", token=token)[0] for token in (None, "node-secret", "admin-secret")] == [
        401,
        401,
        200,
    ]
    assert guarded.ask("POST", "/nodes/n/drain", token="node-secret")[0] == 401
    disguised = [
        guarded.ask(method, path, token="node-secret", Upgrade=word)[0]
        for method, path, word in [("POST", "/nodes/n/drain", "x"), ("GET", "/nodes", "websocket"), ("GET", "/", "x")]
    ]
    assert disguised == [401, 401, 401], "a node's token opens the WebSocket and nothing else"
    assert guarded.ask("POST", "/nodes/n/drain", token="admin-secret")[0] == 200
    assert guarded.ask("GET", "/health")[0] == 200


def test_tokens_are_in_no_event_and_in_no_argument(guarded: Serving) -> None:
    assert "secret" not in json.dumps(guarded.events)
    assert b"secret" not in Path(f"/proc/{guarded.process.pid}/cmdline").read_bytes()


def test_stream_starts_with_all_nodes_and_goes_on_with_what_happens(registry: Serving) -> None:
    before = registry.node("before")
    stream = Stream(registry)
    name, number, snapshot = stream.next()
    assert name == "snapshot" and "before" in [node["id"] for node in snapshot["nodes"]]
    before.say(type="heartbeat", busy=2)
    later, busy = stream.until("node.busy", "before")
    assert busy["busy"] == 2 and later > number
    before.stop()
    assert stream.until("node.offline", "before")[1]["reason"] == "clean: stopped"


def test_reader_that_comes_back_gets_what_it_missed_and_nothing_twice(registry: Serving) -> None:
    first = Stream(registry)
    node = registry.node("missed")
    number, _ = first.until("node.online", "missed")
    first.close()
    node.stop()
    registry.event("node.offline", "missed")
    name, next_number, data = Stream(registry, last=number).next()
    assert (name, next_number, data["id"]) == ("node.offline", number + 1, "missed")


@pytest.mark.parametrize("last", [0, 10**15])
def test_reader_that_was_away_too_long_or_elsewhere_gets_a_snapshot(registry: Serving, last: int) -> None:
    assert Stream(registry, last).next()[0] == "snapshot"


def test_slow_reader_is_cut_off_and_everybody_else_is_served(registry: Serving) -> None:
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", registry.port))
    slow.sendall(f"GET /events HTTP/1.1\r\nHost: {registry.address}\r\n\r\n".encode())
    fat = [{"id": "x" * 200, "name": "y" * 200} for _ in range(100)]
    nodes = [registry.node("fat"), registry.node("obese")]  # one alone would be taken for a flood
    quick = Stream(registry)
    for number in range(1, 321):
        nodes[number % 2].say(type="heartbeat", busy=number, tasks=fat)
        if number % 20 == 0:
            wait_until(lambda: quick.until("node.busy", "fat")[1]["busy"] == number, "the quick one has read it")  # noqa: B023
    assert registry.event("registry.reader_cut_off")["reason"]
    assert "slow_readers_total 1" in registry.get("/metrics")
    for node in nodes:
        node.stop()
    slow.close()


def test_readers_that_do_not_read_cannot_fill_the_memory_by_their_number() -> None:
    settings = Settings()
    assert settings.unread_each(1) == settings.unread
    assert all(count * settings.unread_each(count) <= settings.unread_by_all for count in (32, 200, 5000))


def test_metrics_count_nodes_pools_messages_and_departures(registry: Serving) -> None:
    node, name = registry.node("counted", pools=['odd"\\pool']), "deployer_registry"
    page = registry.get("/metrics")
    assert f'{name}_pool_nodes{{pool="odd\\"\\\\pool"}} 1' in page
    before = counted(page, f'{name}_departures_total{{kind="clean"}}')
    node.stop()
    registry.event("node.offline", "counted")
    page = registry.get("/metrics")
    assert counted(page, f'{name}_departures_total{{kind="clean"}}') == before + 1
    assert counted(page, f'{name}_offline_seconds_bucket{{le="1"}}') >= 1
    assert counted(page, f"{name}_sweep_repairs_total") == 0


def counted(page: str, sample: str) -> float:
    return next((float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{sample} ")), 0.0)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_token_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    file.chmod(mode)
    done = deployer("registry", "serve", "--listen", "127.0.0.1:0", "--admin-token-file", str(file))
    assert done.returncode == 2 and "open to others" in done.stderr and "secret" not in done.stderr


def test_empty_token_is_no_token(tmp_path: Path) -> None:
    done = deployer("registry", "serve", "--listen", "0.0.0.0:0", environment={"DEPLOYER_REGISTRY_ADMIN_TOKEN": ""})
    assert done.returncode == 2 and "there is no token" in done.stderr
