"""A registry's start and end: signals, restarts, files that are not there for it, a machine that runs out of things."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from registries import RawNode, Serving, cleared, deployer, serving, wait_until
from websockets.sync.client import connect


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_sends_every_node_away_to_come_back_and_exits_0(number: signal.Signals) -> None:
    with serving() as registry:
        nodes = [registry.node(f"n{count}") for count in range(20)]
        stream = registry.raw(f"GET /events HTTP/1.1\r\nHost: {registry.address}\r\n\r\n".encode())
        kept = registry.raw(f"GET /health HTTP/1.1\r\nHost: {registry.address}\r\n\r\n".encode())
        assert stream.recv(10) and kept.recv(10)
        began = time.monotonic()
        registry.process.send_signal(number)
        assert {node.told_to_go() for node in nodes} == {(1012, "the registry restarts")}
        assert registry.process.wait(20) == 0
        assert time.monotonic() - began < 10
        registry.event("registry.stopped")
        assert [event for event in registry.events if event["event"] == "node.offline"] == []
        assert registry.process.stderr is not None and registry.process.stderr.read() == ""


def test_nodes_that_do_not_answer_hold_no_registry() -> None:
    with serving() as registry:
        raw = registry.raw(handshake(registry))
        assert raw.recv(4096).startswith(b"HTTP/1.1 101")
        began = time.monotonic()
        assert registry.end() == 0
        assert time.monotonic() - began < 10


def handshake(registry: Serving) -> bytes:
    return (
        f"GET / HTTP/1.1\r\nHost: {registry.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def test_marks_survive_a_killed_registry_and_those_of_ended_processes_do_not(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "registry.db"
    with serving("--state", str(state)) as registry:
        for id in ("kept", "process", "undone", "absent"):
            registry.node(id, instance="old")
            registry.ask("POST", f"/nodes/{id}/drain", {"by": "me", "scope": "process" if id == "process" else "node"})
        registry.ask("DELETE", "/nodes/undone/drain")
        registry.process.kill()
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    with serving("--state", str(state)) as registry:
        absent = registry.get("/nodes/absent")
        assert (absent["status"], absent["reason"]) == ("offline", "not seen since the registry started")
        assert absent["drain"]["by"] == "me"
        assert registry.node("kept", instance="old").welcome["draining"] is True
        assert registry.node("process", instance="old").welcome["draining"] is True
        assert registry.node("process", instance="new").welcome["draining"] is False
        assert registry.node("undone").welcome["draining"] is False
        assert registry.get("/pools/workers")["nodes"] == ["process", "undone"]
        wait_until(lambda: registry.end() == 0, "it has ended")
    with serving("--state", str(state)) as registry:
        assert sorted(node["id"] for node in registry.get("/nodes")) == ["absent", "kept"]


def test_mark_that_the_disk_refuses_is_refused_and_nothing_has_changed(tmp_path: Path) -> None:
    with serving("--state", str(tmp_path / "registry.db")) as registry:
        registry.node("n")
        resource.prlimit(registry.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        status, answer = registry.ask("POST", "/nodes/n/drain")
        assert status == 503 and answer["error"].startswith("nothing was changed: ")
        assert registry.get("/nodes/n")["drain"] is None and registry.get("/pools/workers")["nodes"] == ["n"]
        resource.prlimit(registry.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert registry.ask("POST", "/nodes/n/drain")[0] == 200


def test_second_registry_on_the_same_port_or_the_same_file_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "registry.db"
    with serving("--state", str(state)) as registry:
        port = deployer("registry", "serve", "--listen", registry.address, "--state", "none")
        assert port.returncode == 6 and f"cannot listen on {registry.address}" in port.stderr
        file = deployer("registry", "serve", "--listen", "127.0.0.1:0", "--state", str(state))
        assert file.returncode == 6 and f"another registry has {state}" in file.stderr
        assert registry.ask("GET", "/health")[0] == 200


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(b"no database" * 1000), lambda path: path.mkdir()],
    ids=["garbage", "a directory"],
)
def test_state_file_that_is_none_is_refused(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    damage(tmp_path / "registry.db")
    done = deployer("registry", "serve", "--listen", "127.0.0.1:0", "--state", str(tmp_path / "registry.db"))
    assert done.returncode == 6 and "cannot be used" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--listen", "0.0.0.0:0"], "there is no admin's token"),
        (["--listen", "[::]:0"], "there is no admin's token"),
        (["--listen", "7070"], "is no address to listen on"),
        (["--listen", "127.0.0.1:99999"], "is no address to listen on"),
        (["--timeout", "3s"], "--timeout must be longer than --heartbeat"),
        (["--heartbeat", "5"], 'did you mean "5s"?'),
        (["--tls-cert", "x"], "go together"),
        (["--tls-cert", "/none", "--tls-key", "/none"], "cannot be used"),
        (["--admin-token-file", "/none"], "could not be read"),
    ],
)
def test_wrong_option_is_told_before_anything_is_bound(options: list[str], why: str) -> None:
    done = deployer("registry", "serve", "--state", "none", *options)
    assert done.returncode == 2 and why in done.stderr and "Traceback" not in done.stderr


def test_more_connections_than_files_pause_the_door_and_cost_no_time() -> None:
    with serving() as registry:
        node = registry.node("before")
        now = len(list(Path(f"/proc/{registry.process.pid}/fd").iterdir()))
        resource.prlimit(registry.process.pid, resource.RLIMIT_NOFILE, (now + 10, now + 10))
        crowd = [registry.raw() for _ in range(40)]
        registry.event("registry.trouble")
        before = cpu(registry)
        node.say(type="heartbeat", busy=1)
        time.sleep(2)  # the time in which a busy loop would show
        assert cpu(registry) - before < 0.5
        for sock in crowd:
            sock.close()
        assert registry.get("/nodes/before")["busy"] == 1


def cpu(registry: Serving) -> float:
    fields = Path(f"/proc/{registry.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_log_that_nobody_reads_does_not_stop_the_registry() -> None:
    read, write = os.pipe()
    command = [sys.executable, "-m", "deployer", "registry", "serve", "--listen", "127.0.0.1:0", "--state", "none"]
    with subprocess.Popen(command, env=cleared(None), stderr=write) as process:
        os.close(write)
        try:
            address = os.read(read, 4096).decode().partition("listens on ")[2].split()[0]
            fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 4096)
            for number in range(30):  # two lines each, far more than the pipe holds
                RawNode(address, f"{number}" * 90, release="r" * 190).stop()
            assert RawNode(address, "last").welcome["type"] == "welcome"
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
            os.close(read)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificates")
def test_tls_and_a_new_certificate_at_sighup(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "first")
    with serving("--tls-cert", str(cert), "--tls-key", str(key)) as registry:
        assert subject(registry) == "first"
        certificate(tmp_path, "second")
        registry.process.send_signal(signal.SIGHUP)
        registry.event("registry.reloaded")
        assert subject(registry) == "second"
        key.write_text("broken")
        registry.process.send_signal(signal.SIGHUP)
        registry.event("registry.trouble")
        assert subject(registry) == "second"
        plain = registry.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in plain.recv(100)
        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        context.check_hostname = False
        wire = connect(f"wss://{registry.address}", ssl=context, compression=None, legacy=True)
        wire.send(json.dumps({"type": "register", "v": 1, "id": "n", "instance": "x", "pools": []}))
        assert json.loads(wire.recv())["type"] == "welcome"
        wire.close(1000, "stopped")
        assert registry.event("node.offline", "n")["reason"] == "clean: stopped"


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def subject(registry: Serving) -> str:
    """The name in the certificate that the registry shows now."""
    pem = ssl.get_server_certificate(("127.0.0.1", registry.port))
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253"], input=pem, capture_output=True, text=True
    )
    return done.stdout.strip().partition("CN=")[2]


def test_many_leave_at_once_and_every_one_is_known() -> None:
    with serving() as registry:
        crowd = [RawNode(registry.address, f"n{number}", pools=["all"]) for number in range(200)]
        for node in crowd:
            node.wire.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: registry.get("/health")["online"] == 0, "all are offline")
        assert registry.get("/pools/all")["nodes"] == []
        assert registry.get("/health")["connections"] == 0
