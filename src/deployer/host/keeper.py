"""
The built-in supervisor: one small process per app, parent of the app, single-threaded.

Whatever it was asked for is in state.db before it acts, so it may be killed at any moment: the app runs on, and the next
keeper (started by the next command) goes on from the record.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from deployer.errors import DeployerError
from deployer.host import engine, logs, notify, pipes, unix
from deployer.host.clock import Clock
from deployer.host.keeper_requests import asked_of
from deployer.host.paths import HostPaths
from deployer.host.process import become_subreaper, here
from deployer.host.resuming import Resuming
from deployer.host.say import say
from deployer.host.spawn import base_environment
from deployer.host.state import State
from deployer.host.supervise import Core
from deployer.wire.frames import BrokenFrame, Decoder, Message, pack

ROTATE_EVERY = 15.0
IDLE_FOR = 2.0
"""Seconds with nothing to keep and nobody connected until the keeper goes."""
TRY_AGAIN = 1.0
"""Seconds until the next attempt when the disk refused something (it may be full)."""


class Connection:
    """One client of the keeper: a runner, an agent. Answers that it does not read are dropped with it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.decoder = Decoder()
        self.watches = False
        self.deploy: Optional[str] = None

    def send(self, message: Message) -> bool:
        try:
            self.sock.sendall(pack(message))
        except OSError:
            return False
        return True


class Keeper:
    """The loop around `Core`: connections, exits, deadlines, log rotation. *lock* is held for as long as it keeps the app."""

    def __init__(self, paths: HostPaths, core: Core, server: socket.socket, state: State, lock: int) -> None:
        self._paths = paths
        self._core = core
        self._server = server
        self._state = state
        self._record = _same_file(paths.state)
        self._lock = lock
        self._package = engine.own_digest()
        self._connections: Dict[int, Connection] = {}
        self._clock = Clock()
        self._rotate_at = self._clock.now() + ROTATE_EVERY
        self._resuming = Resuming(paths, state, self._clock, _say)
        self._retry_at: Optional[float] = None
        self._stopping = False
        self._idle_since: Optional[float] = None
        self._told: Any = None
        self._trouble: Optional[str] = None
        self._wake, wake_writer = pipes.waking()
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, self._on_term)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def run(self) -> None:
        """Serve until there is nothing left to keep, or until told to go (the app runs on then)."""
        while not self._stopping:
            try:
                if not self._turn():
                    return
                self._retry_at = self._trouble = None
            except Exception as error:
                self._trouble = str(error)
                # Neither a full disk nor a bug of ours may cost the app its parent: everything here may be done again.
                _say(f"{error!r}; trying again")
                self._retry_at = self._clock.now() + TRY_AGAIN
            self._wait()

    def _turn(self) -> bool:
        """Do what is due; False when there is nothing left to do for ever."""
        if not self._in_charge():
            _say(f"{self._paths.state} was removed or replaced: leaving the app to whoever finds it")
            return False
        self._core.reap()
        self._core.advance()
        self._tell_watchers()
        self._on_time()
        return not self._idle_long_enough()

    def _in_charge(self) -> bool:
        # Without its record, deleted or put aside, a keeper would restart an app that somebody else may have taken over.
        return self._record == _same_file(self._paths.state) and _same_file(self._lock) == _same_file(
            self._paths.keeper_lock
        )

    def _idle_long_enough(self) -> bool:
        if self._connections or not self._core.idle() or self._is_dead_mans_switch():
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = self._clock.now()
        return self._clock.now() >= self._idle_since + IDLE_FOR

    def _is_dead_mans_switch(self) -> bool:
        # Where somebody else keeps the service running, we are here for the deploy alone: until it has ended, or nobody can end it.
        return self._core.owned_elsewhere() and self._resuming.under_way()

    def _on_term(self, *_: object) -> None:
        self._stopping = True

    def _tell_watchers(self) -> None:
        now = (sorted(self._core.instances), sorted(self._core.drains), self._desired_state())
        if now != self._told:
            self._told = now
            for connection in self._connections.values():
                if connection.watches:
                    connection.send({"event": "changed"})

    def _desired_state(self) -> Any:
        row = self._core.desired()
        return (row["id"], row["state"]) if row else None

    def _wait(self) -> None:
        poller = select.poll()
        readers: Dict[int, Callable[[], None]] = {self._wake: self._drain_wake, self._server.fileno(): self._accept}
        for fd, connection in self._connections.items():
            readers[fd] = partial(self._read, connection)
        for name, listener in self._core.notify.items():
            readers[listener.fileno()] = partial(self._heard, name, listener)
        exits = self._core.watched() if self._retry_at is None else []  # known already, and not to be dealt with yet
        for fd in [*readers, *exits]:
            poller.register(fd, select.POLLIN)
        for fd, _ in poller.poll(self._timeout_ms()):
            if fd in readers and self._in_charge():
                self._take(readers[fd])

    def _take(self, reader: Callable[[], None]) -> None:
        try:
            reader()
        except Exception as error:  # whatever somebody sent us, the app keeps its parent
            _say(f"not understood: {error!r}")
            time.sleep(0.1)  # it may still be there to be read

    def _timeout_ms(self) -> float:
        due = [self._rotate_at, self._core.next_deadline(), self._resuming.due]
        if self._idle_since is not None:
            due.append(self._idle_since + IDLE_FOR)
        if self._retry_at is not None:
            due = [self._retry_at]  # what is due has just failed
        left = min(at for at in due if at is not None) - self._clock.now()
        return max(0.0, left * 1000) + 0.5 if left > 0 else 0.0

    def _on_time(self) -> None:
        now = self._clock.now()
        if now >= self._rotate_at:
            self._rotate_at = now + ROTATE_EVERY
            logs.rotate(self._paths.app_log)
            logs.rotate(self._paths.engine_log, kept=1)
        self._resuming.look([connection.deploy for connection in self._connections.values() if connection.deploy])

    def _drain_wake(self) -> None:
        try:
            os.read(self._wake, 4096)
        except BlockingIOError:
            pass

    def _accept(self) -> None:
        try:
            sock, _ = self._server.accept()
        except OSError as error:  # gone already, or too many files are open
            _say(f"no connection: {error}")
            time.sleep(0.1)
            return
        self._connections[sock.fileno()] = Connection(sock)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(65536)
            frames = connection.decoder.feed(data) if data else []
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, BrokenFrame):
            data, frames = b"", []
        for frame in frames:
            if isinstance(frame, dict) and not connection.send(self._answer(connection, frame)):
                data = b""
        if not data:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self._connections.pop(connection.sock.fileno(), None)
        connection.sock.close()
        if connection.deploy:  # a runner that went without a goodbye
            self._resuming.soon()

    def _heard(self, name: str, listener: Any) -> None:
        while True:
            said = listener.receive()
            if said is None:
                return
            self._core.heard(name, *said)

    # Requests --------------------------------------------------------------------------------------------------------

    def _answer(self, connection: Connection, request: Message) -> Message:
        try:
            return {"ok": self._do(connection, request)}
        except DeployerError as error:
            return {"error": error.to_json()}
        except Exception as error:  # a bad request must not take the app's parent down
            _say(f"request {request.get('op')!r} failed: {error!r}")
            return {
                "error": DeployerError(f"the keeper could not do {request.get('op')!r}", cause=repr(error)).to_json()
            }

    def _do(self, connection: Connection, request: Message) -> Any:
        op = request.get("op")
        if op == "status":
            return dict(self._core.status(), pid=os.getpid(), engine=self._package, trouble=self._trouble)
        if op == "watch":
            connection.watches = True
            connection.deploy = request.get("deploy")
        elif op == "bye":
            connection.deploy = None
        elif op == "upgrade":
            if request.get("engine") != self._package:
                self._upgrade(request["argv"])
        else:
            return asked_of(self._core, request)
        return True

    def _upgrade(self, argv: List[str]) -> None:
        # The same process goes on with newer code: children stay children; held sockets, the lock and who waits in our
        # own socket's queue stay over the exec.
        held = {f"--held={address}": sock.fileno() for address, sock in self._core.held.items()}
        fds = {**held, "--lock": self._lock, "--server": self._server.fileno()}
        _say(f"goes on as {argv[-3]}")
        try:
            for fd in fds.values():
                os.set_inheritable(fd, True)
            os.execv(argv[0], [*argv, *(f"{name}={fd}" for name, fd in fds.items())])
        except OSError:
            for fd in fds.values():
                os.set_inheritable(fd, False)
            raise


def _same_file(file: Union[Path, int]) -> Optional[Tuple[int, int]]:
    """What tells one file from another; None for one that is not there. Raises OSError where that cannot be said now."""
    try:
        status = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def main(argv: List[str]) -> int:
    """
    `keeper PATH`: be the keeper of the app at PATH. Tells fd 3, where open, that it serves.

    After an upgrade: [--held=ADDRESS=FD …] [--lock=FD] [--server=FD], what the older code had open.
    """
    paths = HostPaths(Path(argv[0]))
    left = _left_open(argv[1:])
    lock = _take_lock(paths, left.pop("--lock", None))
    if lock is None:
        return 0  # another keeper is quicker
    os.chdir("/")
    become_subreaper()
    state = State(paths.state)
    state.reserve()
    core = Core(paths, state, here(), Clock(), base_environment(os.environ), _say)
    server = left.pop("--server", None)
    core.recover({name[len("--held=") :]: socket.socket(fileno=fd) for name, fd in left.items()})
    keeper = Keeper(paths, core, unix.listen(paths.keeper_socket) if server is None else _listener(server), state, lock)
    _say(f"keeps {paths.root} as pid {os.getpid()}")
    if server is None:  # after an upgrade nobody waits, and fd 3 is a file of ours: the database
        _ready()
    keeper.run()
    _say("nothing left to keep" if core.idle() else "goes; the app runs on")
    return 0


def _left_open(args: List[str]) -> Dict[str, int]:
    """What the code before an upgrade left open for us: name → descriptor."""
    found = {}
    for arg in args:
        name, _, fd = arg.rpartition("=")
        os.set_inheritable(int(fd), False)
        found[name] = int(fd)
    return found


def _take_lock(paths: HostPaths, left: Optional[int]) -> Optional[int]:
    """The descriptor that holds the keeper's lock; None when another keeper holds it."""
    if left is not None:
        return left
    lock = os.open(paths.keeper_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _listener(fd: int) -> socket.socket:
    listener = socket.socket(fileno=fd)
    listener.setblocking(True)
    return listener


def _ready() -> None:
    address = os.environ.pop("NOTIFY_SOCKET", None)
    try:
        if address:  # systemd has started us
            notify.say(address, "READY=1")
        else:
            os.write(3, b"R")
            os.close(3)
    except OSError:
        pass  # nobody waits


def _say(text: str) -> None:
    say(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} keeper {text}")
