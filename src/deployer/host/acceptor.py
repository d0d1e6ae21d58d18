"""Which process accepted a connection of ours? On a socket that two releases share, only the kernel knows who answers."""

from __future__ import annotations

import os
import socket
import time
from typing import Any, Iterable, Iterator, List, Optional, Set, Tuple

from deployer.host import health
from deployer.host.health import Answer
from deployer.host.ports import decoded, sockets_of

LOOK_FIRST, LOOK_LATER = 0.001, 0.02
"""Seconds between two looks at the kernel's table: it tells nobody when a connection is accepted."""

TRIES = 20
"""Connections that one question makes at most until the process that is meant accepts one."""
_ESTABLISHED = "01"
Address = Tuple[str, int]


def ask_one_of(pids: Set[int], url: str, timeout: float, busy: Optional[str]) -> Tuple[Answer, bool]:
    """
    As `health.ask`, of a socket on which others listen, too: the answer, and whether it is certain that one of *pids* gave it.

    The kernel chooses who gets a connection; one that goes to somebody else is closed unused. health.ELSEWHERE when all do.
    """
    seen: List[Optional[bool]] = [None]

    def accepted(connection: socket.socket, within: float) -> bool:
        seen[0] = accepted_by(connection, pids, within)
        return seen[0] is not False

    answer = health.ELSEWHERE
    for _ in range(TRIES):
        answer = health.ask(url, timeout, busy, accepted=accepted)
        if answer is not health.ELSEWHERE:
            break
    return answer, seen[0] is True


def accepted_by(connection: socket.socket, pids: Iterable[int], within: float) -> Optional[bool]:
    """
    Whether one of *pids* has accepted *connection*, to a server on this machine; waits for it *within* seconds.

    None where that cannot be said: nobody has accepted it yet, its other end is not here, or nobody may look into *pids*.
    """
    deadline, pause = time.monotonic() + within, LOOK_FIRST
    while True:
        inode = _inode_of_other_end(connection)
        if inode is None:
            return None
        if inode:
            if any(inode in sockets_of(pid) for pid in pids):
                return True
            return None if all(map(_is_closed_to_us, pids)) else False
        if time.monotonic() >= deadline:
            return None
        time.sleep(pause)
        pause = min(pause * 2, LOOK_LATER)


def _is_closed_to_us(pid: int) -> bool:
    """One with file capabilities, or of another user: its descriptors are not for us to see."""
    try:
        os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _inode_of_other_end(connection: socket.socket) -> Optional[int]:
    """The socket inode of the server's end; 0 while nobody has accepted it, None where there is no such end here."""
    ends = _plain(connection.getpeername()), _plain(connection.getsockname())
    for local, remote, state, inode in _connections():
        if state == _ESTABLISHED and (local, remote) == ends:
            return inode
    return None


def _plain(name: Any) -> Address:
    return str(name[0]).replace("::ffff:", ""), int(name[1])


def _connections() -> Iterator[Tuple[Address, Address, str, int]]:
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as lines:
                next(lines)
                for line in lines:
                    parts = line.split()
                    if parts[3] == _ESTABLISHED:
                        yield _plain(decoded(parts[1])), _plain(decoded(parts[2])), parts[3], int(parts[9])
        except (OSError, StopIteration):
            continue
