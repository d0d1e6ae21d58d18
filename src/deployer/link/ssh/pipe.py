"""One exec channel as a Pipe."""

from __future__ import annotations

import select
import threading
import time
from typing import TYPE_CHECKING, Any

from deployer.errors import LinkError
from deployer.link import bootstrap, refusals
from deployer.link.address import Address
from deployer.link.pipe import End
from deployer.link.ssh.lib import paramiko
from deployer.link.ssh.routes import Login, Trip, connect

if TYPE_CHECKING:
    from deployer.link.dial import Ssh

PACKET_ROOM = 64
"""A send that is larger than a packet less its header becomes two: half the rate."""
LAST_WORDS = 2.0


class ParamikoPipe:
    """The one command, on a connection of its own."""

    def __init__(self, login: Login, channel: paramiko.Channel) -> None:
        self._login = login
        self._channel = channel
        self._slice = max(1024, channel.out_max_packet_size - PACKET_ROOM)
        self._stopping = threading.Lock()

    @staticmethod
    def open(address: Address, ssh: Ssh, become: str | None) -> ParamikoPipe:
        """Log in to *address* and start the command. Raises PreflightError or LinkError."""
        trip = Trip(ssh.config, ssh.connect_timeout, ssh.DEFAULT_TIMEOUT, ssh.host_keys == "accept-new")
        try:
            login = connect(address, trip)
        except OSError as error:  # of our own machine: a host's are told as what they mean
            raise refusals.scarce(f"{address.written} could not be connected to from here", error) from error
        # paramiko waits for the answer to `exec` without an end: a server that gives none is hung up on.
        late = threading.Event()

        def hang_up() -> None:
            late.set()
            login.transport.close()

        hurry = threading.Timer(ssh.silent_after, hang_up)
        hurry.daemon = True
        hurry.start()
        try:
            channel = login.transport.open_session(timeout=ssh.silent_after)
            channel.exec_command(bootstrap.command(become))
        except BaseException as error:
            login.close()
            if not isinstance(error, (paramiko.SSHException, EOFError, OSError)):
                raise
            silent = f"it gave no answer within {ssh.silent_after:g} s" if late.is_set() else None
            raise LinkError(
                f"{address.written} let us log in, and run nothing", state=refusals.UNTOUCHED,
                cause=silent or str(error) or "it hung up",
                hint="may this user run commands there? [target.….ssh] silent_after gives it longer",
            ) from error  # fmt: skip
        finally:
            hurry.cancel()
        return ParamikoPipe(login, channel)

    login_within = 0.0

    def read(self, most: int) -> bytes:
        try:
            return self._channel.recv(most)
        except paramiko.SSHException as error:
            raise OSError(str(error)) from error

    def ready(self) -> bool:
        return self._channel.recv_ready() or self._channel.closed

    def writable(self) -> bool:
        transport = self._login.transport
        roomy = self._channel.out_window_size > PACKET_ROOM and transport.clear_to_send.is_set()
        return roomy and _takes(transport.sock)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            for start in range(0, len(view), self._slice):
                self._channel.sendall(view[start : start + self._slice])  # type: ignore[arg-type]
        except (paramiko.SSHException, EOFError) as error:
            raise OSError(str(error)) from error

    def stop(self) -> None:
        if self._stopping.acquire(blocking=False):
            self._login.close()

    def end(self) -> End:
        # The exit status may come after the end of the output.
        status = self._channel.exit_status if self._channel.status_event.wait(LAST_WORDS) else -1
        said = b""
        deadline = time.monotonic() + LAST_WORDS
        while time.monotonic() < deadline and self._channel.recv_stderr_ready():
            said += self._channel.recv_stderr(65536)
        return End(None if status == -1 else status, said.decode("utf-8", "replace"))


def _takes(sock: Any) -> bool:
    """Whether *sock*, a real one or a channel through a jump host, would take a few bytes at once."""
    if isinstance(sock, paramiko.Channel):
        return sock.out_window_size > PACKET_ROOM and _takes(sock.get_transport().sock)
    try:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # closed meanwhile
        return False
