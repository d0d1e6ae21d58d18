"""Follow a deploy, or the app's log, for a client: every event once and in order, until the end or until the client goes."""

from __future__ import annotations

import io
import json
import select
import socket
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from deployer.errors import Interrupted, PreflightError
from deployer.host import journal, logs, unix
from deployer.host.following_file import Appended
from deployer.host.job_output import WithOutput
from deployer.host.paths import HostPaths
from deployer.host.state import State
from deployer.host.supervisors import builtin
from deployer.wire import frames

Send = Callable[[Dict[str, Any]], None]

RESUME_AFTER, RESUME_EVERY = 2.0, 5.0
"""Seconds without a runner until its follower starts one (the keeper, quicker, may have died too), and between two tries."""
GONE_AFTER = 30.0
"""Seconds without a runner until the follower gives up and says so."""
LOOK_AGAIN = 0.25
LONGEST = 8 * 1024 * 1024
"""Bytes of each log file that are looked through for the last lines."""


def deploy(paths: HostPaths, name: str, since: int, send: Send, client: int, output: int = 0) -> None:
    """
    Send every event of deploy *name* after number *since*; ends with `host.finished`, or when *client* closes.

    Of a run also what its job prints, from byte *output* of its log on.
    """
    told = WithOutput(paths, send, output)
    try:
        told.catch_up(name, since)
        _deploy(paths, name, since, told, client)
    finally:
        told.close()


def _deploy(paths: HostPaths, name: str, since: int, send: WithOutput, client: int) -> None:
    alone = _Alone(paths, name)
    while True:
        connection = _runner(paths, name)
        if connection is not None:
            since, last = _relay(connection, since, send, client)
            alone = _Alone(paths, name)
            if last is not None and last["event"] == "host.finished":
                return
            if last is not None:
                raise _stuck(name, str(last["text"]))
        since, ended = _from_record(paths, name, since, send)
        if ended:
            return
        alone.look_after()
        if select.select([client], [], [], LOOK_AGAIN)[0]:
            return


class _Alone:
    """How long a deploy has been without a runner, and what its follower does about it."""

    def __init__(self, paths: HostPaths, name: str) -> None:
        self._paths = paths
        self._name = name
        self._since = time.monotonic()
        self._resume_at = self._since + RESUME_AFTER

    def look_after(self) -> None:
        """Start a runner when it is time to. Raises Interrupted when none stays."""
        now = time.monotonic()
        if now - self._since > GONE_AFTER:
            raise _gone(self._name)
        if now >= self._resume_at:
            self._resume_at = now + RESUME_EVERY
            builtin.resume(self._paths, self._name)


def _gone(name: str) -> Interrupted:
    return Interrupted(
        f"deploy {name} has lost its runner, and no other one stays",
        cause="see .deployer/engine.log on the host",
        state="`deployer status` says what runs",
        hint="the next `deployer push` finishes or undoes it first",
    )


def _stuck(name: str, why: str) -> Interrupted:
    return Interrupted(
        f"deploy {name} cannot go on now",
        cause=why,
        state="what serves goes on serving; `deployer status` says what that is",
        hint="mend the disk of the host (df -h; df -i; dmesg); the deploy then goes on by itself, or with `deployer status`",
    )


def _runner(paths: HostPaths, name: str) -> Optional[socket.socket]:
    try:
        return unix.connect(paths.runner_socket(name), 5.0)
    except OSError:
        return None


def _relay(
    connection: socket.socket, since: int, send: WithOutput, client: int
) -> tuple[int, Optional[Dict[str, Any]]]:
    """
    The number of the last event, and the event after which there is nothing to wait for, if it came.

    That is the end, though the disk may have refused to keep it, or a warning that was not kept: the disk refuses everything.
    """
    decoder, last = frames.Decoder(), None
    with connection:
        try:
            connection.sendall(frames.pack({"op": "follow", "since": since}))
            while True:
                printed = [send.fileno()] if send.fileno() >= 0 else []
                readable = select.select([connection.fileno(), client, *printed], [], [], send.pause())[0]
                if client in readable:
                    return since, last
                send.more()
                if connection.fileno() not in readable:
                    continue
                data = connection.recv(65536)
                if not data:
                    return since, last
                for event in decoder.feed(data):
                    if isinstance(event, dict):
                        since = max(since, int(event.get("seq") or 0))
                        if event.get("event") == "host.finished" or (
                            event.get("event") == "warning" and "seq" not in event
                        ):
                            last = event
                        send({"event": event})
        except OSError:
            return since, last


def _from_record(paths: HostPaths, name: str, since: int, send: WithOutput) -> tuple[int, bool]:
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


def follow_log(path: Path, lines: int, follow: bool, send: Callable[[frames.Frame], None], client: int) -> None:
    """Send the end of *path* as bytes, and with *follow* what is appended, until *client* closes."""
    watch = Appended(path)
    try:
        text, position = _end_of(path, lines)
        for piece in frames.slices(io.BytesIO(text)):
            send(piece)
        while follow and not watch.wait(client):
            position = _send_new(path, position, send)
    finally:
        watch.close()


def _end_of(path: Path, lines: int) -> tuple[bytes, int]:
    """The last *lines* lines of *path*, from the rotated file before it too where it is short, and where they end."""
    found, position = logs.tail_bytes(path, lines, limit=LONGEST)
    missing = lines - len(logs.lines_of(found))
    if missing > 0:
        found = logs.tail_bytes(path.with_name(f"{path.name}.1"), missing, limit=LONGEST)[0] + found
    return found, position


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
