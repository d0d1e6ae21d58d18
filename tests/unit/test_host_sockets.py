"""Listening sockets: by name, in order, bound or taken over; and who accepted a connection on a shared one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import free_port, wait_until
from deployer.host import health, sockets
from deployer.host.acceptor import accepted_by, ask_one_of
from deployer.host.process import Handle, Processes

LISTEN = """
import socket, sys, time
kind, name = sys.argv[1:]
if kind == "unix":
    s = socket.socket(socket.AF_UNIX); s.bind(name); s.listen()
else:
    host, _, port = name.rpartition(":")
    s = socket.create_server((host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
print("up", flush=True)
time.sleep(60)
"""


@contextmanager
def listener(kind: str, name: str) -> Iterator[Handle]:
    process = subprocess.Popen([sys.executable, "-S", "-c", LISTEN, kind, name], stdout=subprocess.PIPE)
    processes = Processes()
    try:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        identity = processes.identity(process.pid)
        assert identity is not None
        handle = processes.open(identity)
        assert handle is not None
        yield handle
        handle.close()
    finally:
        process.kill()
        process.wait()


def test_setting_is_one_address_or_several_in_order() -> None:
    assert sockets.named(None) == {}
    assert sockets.named("127.0.0.1:1") == {"http": "127.0.0.1:1"}
    several = [["b", "[::1]:2"], ["a", "unix:x.sock"]]
    assert list(sockets.named(several).items()) == [("b", "[::1]:2"), ("a", "unix:x.sock")]
    assert sockets.tcp_ports(several) == [2]
    assert sockets.below("unix:x.sock", Path("/s")) == [["http", "unix:/s/x.sock"]]
    assert sockets.below("unix:/run/x.sock", Path("/s")) == [["http", "unix:/run/x.sock"]]


def test_dead_unix_socket_is_replaced_and_a_living_one_or_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    address = f"unix:{path}"
    first = sockets.bind(address)
    with pytest.raises(OSError, match="listens there"):
        sockets.bind(address)
    first.close()
    second = sockets.bind(address)
    assert sockets.named(address) and path.is_socket() and not list(tmp_path.glob(".a.sock*"))
    sockets.close(address, second)
    assert not path.exists()
    path.write_text("somebody's")
    with pytest.raises(FileExistsError):
        sockets.bind(address)
    assert path.read_text() == "somebody's"


def test_socket_of_another_process_is_taken_and_outlives_it() -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    with listener("tcp", address) as handle:
        assert sockets.listens([handle], address) and sockets.takeable([handle], address)
        assert sockets.take(handle, f"127.0.0.1:{free_port()}") is None
        taken = sockets.take(handle, address)
        assert taken is not None
    with taken, socket.create_connection(("127.0.0.1", port), 5):
        connection, _ = taken.accept()
        connection.close()


def test_socket_for_all_addresses_is_in_the_way_and_not_the_one_that_is_wanted() -> None:
    port = free_port()
    with listener("tcp", f"0.0.0.0:{port}") as handle:
        assert sockets.listens([handle], f"127.0.0.1:{port}")
        assert not sockets.takeable([handle], f"127.0.0.1:{port}")
        assert not sockets.listens([handle], f"127.0.0.1:{free_port()}")
    assert sockets.collide("0.0.0.0:1", "127.0.0.1:1") and not sockets.collide("127.0.0.2:1", "127.0.0.1:1")


def test_unix_socket_of_another_process_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with listener("unix", str(path)) as handle:
        assert sockets.take(handle, f"unix:{tmp_path}/other/a.sock") is None
        assert sockets.listens([handle], f"unix:{path}") and not sockets.takeable([handle], f"unix:{path}")
        taken = sockets.take(handle, f"unix:{path}")
        assert taken is not None
    with taken, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_connection_is_told_by_who_accepted_it() -> None:
    with sockets.bind("127.0.0.1:0") as shared, socket.create_connection(shared.getsockname(), 5) as client:
        assert accepted_by(client, {os.getpid()}, 0.05) is None  # nobody yet
        connection, _ = shared.accept()
        with connection:
            assert accepted_by(client, {os.getpid()}, 5) is True
            assert accepted_by(client, {1}, 5) is False


def test_question_that_others_accept_is_never_asked() -> None:
    with sockets.bind("127.0.0.1:0") as shared:
        asked: list[bytes] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = shared.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(100))

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{shared.getsockname()[1]}/"
        answer, own = ask_one_of({1}, url, 2.0, None)
        assert answer is health.ELSEWHERE and not own
        wait_until(lambda: len(asked) > 1, what="it has tried again")
        assert set(asked) == {b""}
        shared.shutdown(socket.SHUT_RDWR)
