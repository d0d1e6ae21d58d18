"""The keeper's hold on a listening socket: how many clients may wait in it is ours to say, whatever the app said."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from deployer.host import sockets
from deployer.host.held import Held
from deployer.model import Spec

SACKED = 28
"""Where TCP_INFO has, of a listening socket, how many may wait."""


def room(listener: socket.socket) -> int:
    found: int = struct.unpack_from("I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), SACKED)[0]
    return found


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells how many may wait")
def test_clients_of_a_restart_have_room_to_wait_though_the_app_asked_for_less() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    held = Held(lambda line: None)
    spec = Spec(id="i", release="r", app="a", argv=("true",), cwd="/", socket=address)
    held.prepare(spec, [])
    listener = dict(held.items())[address]
    most = min(sockets.BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    try:
        with socket.fromfd(listener.fileno(), socket.AF_INET, socket.SOCK_STREAM) as of_the_app:
            of_the_app.listen(100)  # as asyncio does with every socket that it is given
        assert room(listener) == 100
        held.prepare(spec, [])
        assert room(listener) == most
    finally:
        held.keep([])
