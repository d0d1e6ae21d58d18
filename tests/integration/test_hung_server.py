"""Servers that let us log in and go no further: told in time, whatever they leave unanswered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import paramiko
import pytest

from conftest import Client
from sshd import Bed


class Mute(paramiko.ServerInterface):
    """Takes any key and opens sessions; what is asked of one is never answered."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.over.wait(60)
        return False


@pytest.fixture
def mute(bed: Bed) -> Iterator[str]:
    """Its address; its key is known."""
    server, key = Mute(), paramiko.ECDSAKey.generate()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        bed.known_hosts.write_text(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")

        def serve() -> None:
            transport = paramiko.Transport(listener.accept()[0])
            transport.add_server_key(key)
            transport.start_server(server=server)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{port}"
        server.over.set()


def test_a_server_that_never_answers_exec_is_left(client: Client, mute: str) -> None:
    started = time.monotonic()
    error = client.refusal(mute, heartbeat=0.2, silent_after=2.0)
    assert time.monotonic() - started < 30  # the server's own silence is 60 s
    if client.name == "paramiko":
        assert "let us log in, and run nothing" in error.title and "no answer within 2 s" in error.cause
