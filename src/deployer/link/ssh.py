"""The SSH client in this process: paramiko, tuned as measured. The only importer of paramiko."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko

from deployer.errors import LinkError
from deployer.link import bootstrap
from deployer.link.address import Address
from deployer.link.pipe import End

if TYPE_CHECKING:
    from deployer.link.dial import Ssh

PACKET_ROOM = 64
"""A send that is larger than a packet less its header becomes two: half the rate."""


class ParamikoPipe:
    """One exec channel."""

    def __init__(self, client: paramiko.SSHClient, channel: paramiko.Channel) -> None:
        self._client = client
        self._channel = channel
        self._slice = max(1024, channel.out_max_packet_size - PACKET_ROOM)

    @staticmethod
    def open(address: Address, ssh: Ssh, become: str | None) -> ParamikoPipe:
        client = paramiko.SSHClient()
        try:
            found = _lookup(address, ssh)
            known = Path(os.path.expanduser("~/.ssh/known_hosts"))
            if known.exists():
                client.load_host_keys(str(known))
            host, port = found.get("hostname", address.host), address.port or int(found.get("port", 22))
            sock = socket.create_connection((host, port), ssh.connect_timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.connect(
                host, port, address.user or found.get("user"), sock=sock, transport_factory=_transport,
                key_filename=found.get("identityfile"), timeout=ssh.connect_timeout, banner_timeout=ssh.connect_timeout,
                auth_timeout=ssh.connect_timeout,
            )  # fmt: skip
            transport = client.get_transport()
            assert transport is not None
            channel = transport.open_session(timeout=ssh.connect_timeout)
            channel.exec_command(bootstrap.command(become))
        except (paramiko.SSHException, OSError) as error:
            client.close()
            title = f"{address.written} could not be reached"
            raise LinkError(title, cause=str(error), state="nothing was changed") from error
        return ParamikoPipe(client, channel)

    def read(self, most: int) -> bytes:
        try:
            return self._channel.recv(most)
        except paramiko.SSHException as error:
            raise OSError(str(error)) from error

    def ready(self) -> bool:
        return self._channel.recv_ready() or self._channel.closed

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            for start in range(0, len(view), self._slice):
                self._channel.sendall(view[start : start + self._slice])  # type: ignore[arg-type]
        except (paramiko.SSHException, EOFError) as error:
            raise OSError(str(error)) from error

    def stop(self) -> None:
        self._client.close()

    def end(self) -> End:
        status: int | None = None
        if self._channel.status_event.wait(2.0):
            status = self._channel.exit_status
        said = b""
        while self._channel.recv_stderr_ready():
            said += self._channel.recv_stderr(65536)
        return End(None if status == -1 else status, said.decode("utf-8", "replace"))


def _lookup(address: Address, ssh: Ssh) -> dict[str, Any]:
    file = ssh.config or Path(os.path.expanduser("~/.ssh/config"))
    return paramiko.SSHConfig.from_path(str(file)).lookup(address.host) if file.exists() else {}


def _transport(sock: Any, **options: Any) -> paramiko.Transport:
    transport = paramiko.Transport(sock, **options)
    security = transport.get_security_options()
    security.ciphers = tuple(sorted(security.ciphers, key=lambda name: "gcm" not in name))
    return transport
