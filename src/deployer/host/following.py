"""Follow a deploy, or the app's log, for a client: every event once and in order, until the end or until the client goes."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from deployer.errors import PreflightError
from deployer.host import journal, lock, logs, unix
from deployer.host.paths import HostPaths
from deployer.host.state import State
from deployer.wire import frames

Send = Callable[[Dict[str, Any]], None]

GONE_AFTER = 20.0
"""Seconds without a runner until a deploy counts as interrupted, and its follower is told so."""
LOOK_AGAIN = 0.25


def deploy(paths: HostPaths, name: str, since: int, send: Send, client: int) -> None:
    """Send every event of deploy *name* after number *since*; ends with `host.finished`, or when *client* closes."""
    alone_since: Optional[float] = None
    while True:
        connection = _runner(paths, name)
        if connection is not None:
            alone_since = None
            since = _relay(connection, since, send, client)
        since, ended = _from_record(paths, name, since, send)
        if ended or select.select([client], [], [], 0)[0]:
            return
        alone_since = time.monotonic() if alone_since is None else alone_since
        if time.monotonic() - alone_since > GONE_AFTER:
            raise PreflightError(
                f"deploy {name} has lost its runner",
                cause="it was interrupted on the host",
                state="see `deployer status`",
                hint="any deployer command that acts will finish or undo it first",
            )
        if select.select([client], [], [], LOOK_AGAIN)[0]:
            return


def _runner(paths: HostPaths, name: str) -> Optional[socket.socket]:
    if lock.free(paths.lock) or lock.holder(paths.lock).get("deploy") != name:
        return None
    try:
        return unix.connect(paths.runner_socket, 5.0)
    except OSError:
        return None


def _relay(connection: socket.socket, since: int, send: Send, client: int) -> int:
    decoder = frames.Decoder()
    with connection:
        try:
            connection.sendall(frames.pack({"op": "follow", "since": since}))
            while True:
                readable = select.select([connection.fileno(), client], [], [])[0]
                if client in readable:
                    return since
                data = connection.recv(65536)
                if not data:
                    return since
                for event in decoder.feed(data):
                    if isinstance(event, dict):
                        since = max(since, int(event.get("seq") or 0))
                        send({"event": event})
        except OSError:
            return since


def _from_record(paths: HostPaths, name: str, since: int, send: Send) -> tuple[int, bool]:
    state = State(paths.state)
    try:
        row = state.row("SELECT ended_at FROM deploys WHERE id=?", name)
        if row is None:
            raise PreflightError(f"deploy {name} is not known here", hint="deployer history")
        if row["ended_at"] is None:
            return since, False
        for stored in journal.events(state, name, since):
            event = json.loads(stored["event"])
            since = event["seq"]
            send({"event": event})
        return since, True
    finally:
        state.close()


def logs_pieces(path: Path, lines: int) -> bytes:
    """The last *lines* lines of *path*, from the rotated file before it too where it is short."""
    found = logs.tail(path, lines, limit=8 * 1024 * 1024)
    if len(found) < lines:
        older = path.with_name(f"{path.name}.1")
        found = logs.tail(older, lines - len(found), limit=8 * 1024 * 1024) + found
    return "".join(f"{line}\n" for line in found).encode("utf-8", "surrogateescape")


def follow_log(path: Path, lines: int, follow: bool, send: Callable[[frames.Frame], None], client: int) -> None:
    """Send the end of *path* as bytes, and with *follow* what is appended, until *client* closes."""
    position = logs.size(path)
    text = logs_pieces(path, lines)
    if text:
        send(text)
    watch = _Appended(path)
    try:
        while follow and not watch.wait(client):
            position = _send_new(path, position, send)
    finally:
        watch.close()


def _send_new(path: Path, position: int, send: Callable[[frames.Frame], None]) -> int:
    end = logs.size(path)
    if end < position:
        position = 0  # rotated: the file begins anew
    try:
        with open(path, "rb") as file:
            file.seek(position)
            for piece in frames.slices(file):
                send(piece)
                position += len(piece)
    except FileNotFoundError:
        pass
    return position


class _Appended:
    """Waits for a file to grow: inotify where there is one, a look every quarter second elsewhere."""

    IN_MODIFY, IN_CLOEXEC = 0x2, 0o2000000

    def __init__(self, path: Path) -> None:
        import ctypes

        self._fd = -1
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            self._fd = libc.inotify_init1(self.IN_CLOEXEC)
            if self._fd >= 0 and libc.inotify_add_watch(self._fd, os.fsencode(path), self.IN_MODIFY) < 0:
                self.close()
        except (OSError, AttributeError):
            self.close()

    def wait(self, client: int) -> bool:
        """Whether *client* has closed; returns when the file may have grown."""
        watched = [client] if self._fd < 0 else [client, self._fd]
        readable = select.select(watched, [], [], LOOK_AGAIN if self._fd < 0 else 5.0)[0]
        if self._fd in readable:
            os.read(self._fd, 65536)
        return client in readable

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
