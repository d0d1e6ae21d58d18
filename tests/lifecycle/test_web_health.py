"""/health: the document, and the thread that answers it whatever its clients and its app do."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from served import AS_FDS, ask_at

from app import SOURCE, wait_until
from deployer.lifecycle.health import document
from deployer.lifecycle.health_server import AT_ONCE, Address, HealthServer
from deployer.lifecycle.sockets import inherited

FACTS = {"status": "ok", "busy": 1, "tasks": [{"id": "1", "name": "a", "started_at": "x"}], "stuck": None}


@pytest.mark.parametrize(
    ("status", "stuck", "code", "busy", "last"),
    [
        ("ok", None, 200, 1, "a"),
        ("ok", 0.4, 200, 1, "a"),
        ("ok", 1.2, 200, 2, "event loop blocked"),
        ("starting", None, 503, 1, "a"),
        ("shutting_down", 3.0, 503, 2, "event loop blocked"),
    ],
)
def test_document(status: str, stuck: float | None, code: int, busy: int, last: str) -> None:
    found, said = document({**FACTS, "status": status, "stuck": stuck}, 7, "r1")
    assert (found, said["busy"], said["tasks"][-1]["name"]) == (code, busy, last)
    assert (said["status"], said["pid"], said["release"]) == (status, 7, "r1")
    assert FACTS["tasks"] == [{"id": "1", "name": "a", "started_at": "x"}], "the facts are not ours to change"


@contextmanager
def answering(where: Any, serves: list[str] | None = None) -> Iterator[Any]:
    address = Address(where)
    server = HealthServer(
        address, lambda: document(FACTS, 7, "r1"), lambda: (serves or []).append("serve"), lambda: None
    )
    server.start()
    try:
        yield server.where
    finally:
        server.stop()


def test_answers_and_opens(tmp_path: Path) -> None:
    serves = ["before"]
    with answering("127.0.0.1:0", serves) as where:
        assert ask_at(where)[1]["tasks"] == FACTS["tasks"]
        assert ask_at(where, "/health?x=1")[0] == 200
        assert ask_at(where, "/serve", "POST")[0] == 200 and serves == ["before", "serve"]
        assert [ask_at(where, "/serve")[0], ask_at(where, "/health", "POST")[0], ask_at(where, "/x")[0]] == [
            405,
            405,
            404,
        ]
        assert serves == ["before", "serve"]


@pytest.mark.parametrize(
    "said",
    [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"\r\n\r\n", b"GET\r\n\r\n", b"A" * 70_000, os.urandom(3000) + b"\n\n", b"", b"GET /he"],
    ids=["tls", "empty", "one word", "endless", "noise", "nothing", "half"],
)  # fmt: skip
def test_garbage_hurts_nobody(said: bytes) -> None:
    with answering("127.0.0.1:0") as where:
        with socket.create_connection(where) as line:
            line.sendall(said)
            line.shutdown(socket.SHUT_WR)
            line.settimeout(20)
            try:
                answer = b"".join(iter(lambda: line.recv(65536), b""))
            except ConnectionResetError:
                answer = b""
        assert b" 200 " not in answer
        assert ask_at(where)[0] == 200


def test_slow_clients_and_many_keep_nobody_out() -> None:
    with answering("127.0.0.1:0") as where:
        crowd = [socket.create_connection(where) for _ in range(3 * AT_ONCE)]
        for line in crowd:
            try:
                line.send(b"GET /health HTTP/1.1\r\n")  # and never goes on
            except OSError:
                pass  # it was the oldest
        assert ask_at(where, timeout=5)[0] == 200
        for line in crowd:
            line.close()


def test_unix_socket_is_for_its_owner_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with answering(f"unix:{path}") as where:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and ask_at(where)[0] == 200
        with pytest.raises(OSError, match="in use"):
            Address(f"unix:{path}")
        assert ask_at(str(path))[0] == 200, "who listens there is left alone"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError):
        Address(f"unix:{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("where", ["9000", "localhost", "unix:relative", ":9000"])
def test_what_is_no_address_is_refused(where: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Address(where)


PROGRAM = """
import asyncio, sys, time
from deployer.lifecycle import Lifecycle
life = Lifecycle(health=sys.argv[1], max_wait="20s")
async def main():
    async with life.task("thinking"):
        await asyncio.sleep(0.3)
        print(time.monotonic(), flush=True)
        time.sleep(float(sys.argv[2]))
if sys.argv[2] == "taken":
    life.run()
life.run(main)
"""


def start(where: str, how: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    argv = [sys.executable, "-c", PROGRAM, where, how]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_drains_under_a_blocked_loop_and_answers_to_the_end(tmp_path: Path) -> None:
    path = str(tmp_path / "health.sock")
    process = start(f"unix:{path}", "5")
    try:
        assert process.stdout is not None
        since = float(process.stdout.readline())
        wait_until(lambda: time.monotonic() > since + 2, what="two seconds have passed")
        assert ask_at(path)[1]["stuck"] > 1, "the first one who asks is told"
        process.terminate()
        code, said = wait_until(lambda: _blocked(path), what="the loop is seen to be blocked")
        assert (code, said["status"]) == (503, "shutting_down")
        assert [task["name"] for task in said["tasks"]] == ["thinking", "event loop blocked"] and said["busy"] == 2
        assert "drained, 0 lost" in process.communicate(timeout=30)[1] and process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def _blocked(path: str) -> tuple[int, dict[str, Any]] | None:
    code, said = ask_at(path)
    return (code, said) if said["status"] != "ok" and said.get("stuck", 0) > 1 else None


def test_taken_address_is_said_clearly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = "{}:{}".format(*taken.getsockname())
        process = start(where, "taken")
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1 and f"/health cannot be answered at {where}" in err


def test_sockets_are_handed_out_by_name_and_kept_from_children() -> None:
    program = """
import json, os, socket, subprocess, sys
from deployer.lifecycle import Lifecycle
from deployer.lifecycle.sockets import inherited
life = Lifecycle()
seen = {
    "names": life.sockets.names, "count": len(life.sockets), "public": len(life.sockets.public()),
    "ports": [one.getsockname()[1] for one in life.sockets.all("http")], "admin": "admin" in life.sockets,
    "kept": [os.get_inheritable(fd) for fd in (3, 4, 5)],
    "child": subprocess.run([sys.executable, "-S", "-c", "import os; print(sorted(set(os.listdir('/proc/self/fd')) & set('345')))"],
        close_fds=False, capture_output=True, text=True).stdout.strip(),
    "popen": life.popen(["env"], stdout=subprocess.PIPE, text=True).communicate()[0].count("LISTEN_"),
    "variables": os.environ["LISTEN_FDS"], "foreign": len(inherited(os.environ, os.getpid() + 1)),
}
try:
    life.sockets["metrics"]
except KeyError as error:
    seen["error"] = str(error)
print(json.dumps(seen))
"""
    with contextlib.ExitStack() as open_ones:
        one, private, two = (open_ones.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3))
        fds = [each.fileno() for each in (one, private, two)]
        argv = [sys.executable, "-S", "-c", AS_FDS, "http:health:http", ",".join(map(str, fds))]
        done = subprocess.run(
            [*argv, sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(SOURCE)}, pass_fds=fds,
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        ports = [one.getsockname()[1], two.getsockname()[1]]
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["names"], seen["count"], seen["public"]) == (["http", "health", "http"], 3, 2)
    assert seen["ports"] == ports and seen["admin"] is False
    assert seen["kept"] == [False] * 3 and seen["child"] in ("[]", "['3']")  # 3: its own look at the directory
    assert (seen["variables"], seen["popen"]) == ("3", 0) and seen["foreign"] == 0
    assert 'no inherited socket is called "metrics"; there are: health, http' in seen["error"]


@pytest.mark.parametrize(
    "variables", [{}, {"LISTEN_FDS": "x"}, {"LISTEN_FDS": "-1"}, {"LISTEN_FDS": "99999999999"}, {"LISTEN_FDS": "0"}]
)
def test_nonsense_in_the_environment_is_no_socket(variables: dict[str, str]) -> None:
    assert len(inherited({**variables, "LISTEN_PID": "7"}, pid=7)) == 0
