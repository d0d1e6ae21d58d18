"""Listening sockets that somebody else holds for us: `LISTEN_FDS` of systemd and deployer, handed out by name."""

from __future__ import annotations

import os
import socket
from typing import Dict, List, Mapping, Optional, Tuple

MAIN = "http"
"""The name of a socket that was given none, as deployer calls it."""
PRIVATE = "health"
"""Ours alone: /health from the first moment to the last, and the gate."""
FIRST_FD = 3
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Sockets:
    """
    The inherited sockets, in the order in which they were given; duplicates, so that a socket that is closed can be had again.

    Nothing is taken from the environment: a program that replaces itself by `exec` finds what we found. `exec` keeps the
    descriptors from 3 on only where `inheritable` was asked for; children never get them.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = dict(names)

    def __getitem__(self, name: str) -> socket.socket:
        """The first socket called *name*. Raises KeyError, with the names there are."""
        found = self.all(name)
        if not found:
            there = ", ".join(sorted(set(self._names.values()))) or "none"
            raise KeyError(f'no inherited socket is called "{name}"; there are: {there}')
        for other in found[1:]:
            other.close()
        return found[0]

    def __contains__(self, name: object) -> bool:
        return name in self._names.values()

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> Tuple[str, ...]:
        return tuple(self._names.values())

    @property
    def fds(self) -> Tuple[int, ...]:
        """The descriptors themselves, the private one left out: for servers that want numbers."""
        return tuple(fd for fd, name in self._names.items() if name != PRIVATE)

    def all(self, name: str) -> List[socket.socket]:
        """Every socket called *name*."""
        return [_duplicate(fd) for fd, its in self._names.items() if its == name]

    def public(self) -> List[socket.socket]:
        """Those called "http"; where nobody is called so, all but the private one."""
        return self.all(MAIN) or [_duplicate(fd) for fd in self.fds]

    def inheritable(self, yes: bool = True) -> None:
        """Whether what we `exec` from now on gets them; children by `subprocess` close what they are not passed anyway."""
        for fd in self._names:
            os.set_inheritable(fd, yes)


def inherited(environment: Optional[Mapping[str, str]] = None, pid: Optional[int] = None) -> Sockets:
    """
    What `LISTEN_FDS` says is ours; nothing where `LISTEN_PID` is somebody else's, or where a descriptor is no listening socket.

    Their close-on-exec flag is set: a child that kept one would hold the port long after us.
    """
    env = os.environ if environment is None else environment
    count = _number(env.get("LISTEN_FDS"))
    if _number(env.get("LISTEN_PID")) != (os.getpid() if pid is None else pid) or not 0 < count < 1000:
        return Sockets({})
    given = [name for name in env.get("LISTEN_FDNAMES", "").split(":") if name]
    names = _named(given, count)
    found = {fd: names[fd - FIRST_FD] for fd in range(FIRST_FD, FIRST_FD + count) if _listens(fd)}
    for fd in found:
        os.set_inheritable(fd, False)
    return Sockets(found)


def for_children(environment: Mapping[str, str]) -> Dict[str, str]:
    """*environment* for a command that we start: without the sockets, which are not passed on to it."""
    return {name: value for name, value in environment.items() if name not in VARIABLES}


def _named(given: List[str], count: int) -> List[str]:
    """One name for each; "unknown" is how systemd says that nobody gave one."""
    names = [MAIN if name == "unknown" else name for name in given[:count]]
    return names + [MAIN] * (count - len(names))


def _number(text: Optional[str]) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else -1


def _listens(fd: int) -> bool:
    try:
        with _duplicate(fd) as one:
            return bool(one.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_ACCEPTCONN", 2)))
    except OSError:
        return False


def _duplicate(fd: int) -> socket.socket:
    return socket.socket(fileno=os.dup(fd))
