"""The socket to a host: straight, through a command, or through other hosts, each of them logged in to once."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from deployer.errors import DeployerError, LinkError, PreflightError
from deployer.link import refusals
from deployer.link.address import Address
from deployer.link.handshakes import HANDSHAKES
from deployer.link.ssh import unsupported
from deployer.link.ssh.lib import paramiko
from deployer.link.ssh.login import log_in
from deployer.link.ssh_options import Options, resolve

LAST_WORDS = 0.5
"""Seconds for a ProxyCommand to end after its connection has."""
Trail = tuple[tuple[str, str, int], ...]
"""Who stands on whom: user, host and port of each login that is waiting for the next one."""


@dataclass(frozen=True)
class Trip:
    """What holds for every hop: the ssh config, seconds to connect (None: its own, or the default), and what new keys are worth."""

    config: Path | None
    connect_timeout: float | None
    default_timeout: float
    accept_new: bool


class Login:
    """A transport, and what it stands on. `close` ends what nobody else uses."""

    def __init__(self, transport: paramiko.Transport, below: Route) -> None:
        self.transport = transport
        self._below = below

    def close(self) -> None:
        self.transport.close()
        self._below.close()


class Route:
    """A connected socket, and what must be let go with it."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock

    def close(self) -> None:
        self.sock.close()

    def trouble(self) -> str:
        """Why whoever carries the connection could not; empty where it is worth another attempt."""
        return ""


def connect(address: Address, trip: Trip) -> Login:
    """Log in to *address*. Raises PreflightError or LinkError, `refusals.Dropped` among them."""
    return _log_in(resolve(address, trip.config), trip, address.written, (), ())


def _log_in(options: Options, trip: Trip, told: str, hops: tuple[Address, ...], trail: Trail) -> Login:
    unsupported.refuse(options)
    here = (options.user, options.host, options.port)
    timeout = options.connect_timeout(trip.connect_timeout, trip.default_timeout)
    jumps = hops or options.jumps
    with _turn(options, told, bool(jumps or options.proxy_command)) as addresses:
        if jumps:
            route: Route = _Jump(options, jumps, trip, told, timeout, (*trail, here))
        elif options.proxy_command:
            route = _Command(options.proxy_command)
        else:
            route = Route(_socket(options, told, timeout, addresses))
        try:
            return Login(log_in(route.sock, options, told, timeout, trip.accept_new), route)
        except BaseException as error:
            said = route.trouble() if isinstance(error, LinkError) else ""
            route.close()
            if said:
                raise refusals.unreachable(told, options.where, said) from error
            raise


@contextmanager
def _turn(options: Options, told: str, carried: bool) -> Iterator[list[Any]]:
    """Wait for our turn at the server; the addresses that its name has, where we connect ourselves."""
    addresses = [] if carried else _addresses(options, told)
    with HANDSHAKES.turn(addresses[0][4] if addresses else options.where):
        yield addresses


def _addresses(options: Options, told: str) -> list[Any]:
    try:
        return socket.getaddrinfo(options.host, options.port, options.family, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else str(error)
        raise refusals.unresolvable(told, options.host, why or str(error)) from error


def _socket(options: Options, told: str, timeout: float, addresses: list[Any]) -> socket.socket:
    failed: OSError | None = None
    for family, kind, protocol, _, where in addresses:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a family that this machine does not have, or no descriptor left
            if error.errno in refusals.SCARCE:
                raise refusals.scarce(f"{told} could not be connected to from here", error) from error
            failed = error
            continue
        try:
            sock.settimeout(timeout)
            # Without it every answer waits for the other side's delayed ACK: 48 ms instead of 5.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if bound := options.found.text("bindaddress"):
                sock.bind((bound, 0))
            sock.connect(where)
            return sock
        except OSError as error:
            sock.close()
            failed = error
    if isinstance(failed, TimeoutError):
        raise refusals.timed_out(told, options.where, timeout) from failed
    if isinstance(failed, ConnectionRefusedError):
        raise refusals.refused(told, options.where) from failed
    raise refusals.unreachable(told, options.where, (failed and failed.strerror) or str(failed)) from failed


# Through a command ---------------------------------------------------------------------------------------------------


class _Command(Route):
    """ProxyCommand: a process whose stdin and stdout are the connection."""

    def __init__(self, command: str) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the route
        shell = os.environ.get("SHELL") or "/bin/sh"
        try:
            # A session of its own: Ctrl-C in the terminal is the client's to handle.
            self._process = subprocess.Popen(
                [shell, "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._errors,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise PreflightError(
                "the ProxyCommand could not be started", cause=f"{shlex.quote(shell)}: {error.strerror}",
                state=refusals.UNTOUCHED,
            ) from error  # fmt: skip
        finally:
            theirs.close()

    def close(self) -> None:
        super().close()
        _end(self._process)

    def trouble(self) -> str:
        try:
            status = self._process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            return ""
        said = os.pread(self._errors.fileno(), 1 << 16, 0).decode("utf-8", "replace").strip()[-500:]
        # An ssh of its own that was dropped for MaxStartups.
        return "" if "kex_exchange_identification" in said else said or f"the ProxyCommand ended with status {status}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End *process* and what it has started, at once."""
    for number in (15, 9):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass
        try:
            process.wait(1.0)
            return
        except subprocess.TimeoutExpired:
            continue


# Through other hosts -------------------------------------------------------------------------------------------------


@dataclass
class _Shared:
    lock: threading.Lock = field(default_factory=threading.Lock)
    login: Login | None = None
    error: DeployerError | None = None
    users: int = 0


class Gateways:
    """One login for each jump host, however many hosts are behind it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[object, _Shared] = {}

    def enter(self, options: Options, hops: tuple[Address, ...], trip: Trip, trail: Trail) -> tuple[object, Login]:
        """The login to the host of *options*, through *hops*. `leave` as often."""
        name = (options.user, options.host, options.port, hops, trip)
        with self._lock:
            shared = self._shared.setdefault(name, _Shared())
            shared.users += 1
        try:
            with shared.lock:
                return name, self._login(shared, options, hops, trip, trail)
        except BaseException:
            self.leave(name)
            raise

    def _login(self, shared: _Shared, options: Options, hops: tuple[Address, ...], trip: Trip, trail: Trail) -> Login:
        if shared.error is not None:  # fifty hosts behind a dead one must not wait for it one after the other
            raise copy(shared.error)
        try:
            if shared.login is not None and not shared.login.transport.is_active():
                dead, shared.login = shared.login, None
                dead.close()
            if shared.login is None:
                shared.login = _log_in(options, trip, options.address.written, hops, trail)
            return shared.login
        except refusals.Dropped:
            raise
        except DeployerError as error:
            shared.error = copy(error)
            raise

    def leave(self, name: object) -> None:
        with self._lock:
            shared = self._shared[name]
            shared.users -= 1
            if shared.users == 0:
                del self._shared[name]
        if shared.users == 0 and shared.login is not None:
            shared.login.close()


GATEWAYS = Gateways()


class _Jump(Route):
    """ProxyJump: a channel through the last hop, which is reached through those before it."""

    def __init__(
        self, options: Options, jumps: tuple[Address, ...], trip: Trip, told: str, timeout: float, trail: Trail
    ) -> None:
        last = resolve(jumps[-1], trip.config)
        if (last.user, last.host, last.port) in trail:  # before we wait for a login that waits for us
            raise options.wrong("proxyjump", "it goes in a circle")
        try:
            self._name, gateway = GATEWAYS.enter(last, jumps[:-1], trip, trail)
        except (LinkError, PreflightError) as error:
            error.title = f"{told}: its jump host, {error.title}"
            raise
        self._left = False
        try:
            super().__init__(
                gateway.transport.open_channel(
                    "direct-tcpip", (options.host, options.port), ("127.0.0.1", 0), timeout=timeout
                )
            )
        except (paramiko.SSHException, EOFError, OSError) as error:
            self.leave()
            raise refusals.unreachable(
                told, options.where, f"{jumps[-1].written} could not connect: {error}"
            ) from error

    def close(self) -> None:
        super().close()
        self.leave()

    def leave(self) -> None:
        if not self._left:
            self._left = True
            GATEWAYS.leave(self._name)
