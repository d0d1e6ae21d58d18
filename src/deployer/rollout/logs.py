"""`deployer logs`: the app's output on every host; while it is followed, from all of them at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError, LinkError
from deployer.rollout.each import on_each
from deployer.rollout.hosts import connect, hosts

Asked = Mapping[str, Any]
Write = Callable[[str, bytes], None]
Tell = Callable[[str, DeployerError], None]
WAITING = 1000
"""Pieces that wait to be written before the hosts are made to wait."""


def logs(config: Config, lines: int, follow: bool, write: Write, tell: Tell, service: str | None = None) -> int:
    """
    The last *lines* of each host's log (of the app, or of its *service*), given to *write*; the exit code.

    With *follow* also what comes after them.

    Why a host has nothing to say goes to *tell*; the others go on. *write* and *tell* are called by this thread only.
    """
    require_available(config)
    names = hosts(config)
    asked = {"lines": lines, "follow": follow, "service": service}
    if len(names) == 1:
        return _one(config, names[0], asked, write, tell)
    return _followed(config, asked, write, tell) if follow else _in_turn(config, asked, write, tell)


def _one(config: Config, host: str, asked: Asked, write: Write, tell: Tell) -> int:
    write(host, b"")  # it is known, even if its log is empty
    try:
        for piece in _pieces(config, host, asked):
            write(host, piece)
    except DeployerError as error:
        tell(host, error)
        return error.code
    return 0


def _pieces(config: Config, host: str, asked: Asked) -> Iterator[bytes]:
    with connect(config, host) as session:
        for piece in session.stream("logs", **asked):
            if isinstance(piece, bytes):
                yield piece


def _in_turn(config: Config, asked: Asked, write: Write, tell: Tell) -> int:
    """Asked side by side, shown host by host: their lines carry no times by which they could be merged."""
    code = 0
    found = on_each(hosts(config), lambda host: list(_pieces(config, host, asked)))
    for host, pieces in zip(hosts(config), found, strict=True):
        if isinstance(pieces, DeployerError):
            code = code or pieces.code
            tell(host, pieces)
        else:
            write(host, b"".join(pieces))
    return code


def _followed(config: Config, asked: Asked, write: Write, tell: Tell) -> int:
    """A thread for each host, which waits most of the time; they end with the process, or with their link."""
    arrived: queue.Queue[tuple[str, bytes | DeployerError | None]] = queue.Queue(WAITING)

    def listen(host: str) -> None:
        end: DeployerError | None = None
        try:
            for piece in _pieces(config, host, asked):
                arrived.put((host, piece))
        except DeployerError as error:
            end = error
        except Exception as error:  # else we would wait for its end for ever
            end = LinkError(f"the log of {host} broke off", cause=f"{type(error).__name__}: {error}")
        arrived.put((host, end))

    for host in hosts(config):
        threading.Thread(target=listen, args=(host,), name=f"log of {host}", daemon=True).start()
    return _until_all_end(arrived, len(hosts(config)), write, tell)


def _until_all_end(
    arrived: queue.Queue[tuple[str, bytes | DeployerError | None]], open_: int, write: Write, tell: Tell
) -> int:
    code = 0
    while open_:
        host, piece = arrived.get()
        if isinstance(piece, bytes):
            write(host, piece)
            continue
        open_ -= 1
        if piece is not None:
            code = code or piece.code
            tell(host, piece)
    return code
