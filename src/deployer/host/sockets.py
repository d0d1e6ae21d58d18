"""
Listening sockets that outlive an app: addresses by name, bound here, or taken out of a process that listens already.

An address is "host:port" or "unix:/path". A setting is one address (its name is "http"), or a list of (name, address) in the
order in which an app finds them from fd 3 on.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from deployer.host import ports, unix
from deployer.host.process import Handle

MAIN = "http"
BACKLOG = 4096
"""Connections that may wait while nobody accepts; the kernel's somaxconn is the limit above it."""
UNIX = "unix:"
UNIX_MODE = 0o666
"""As systemd's SocketMode: who may reach it is for its directory to say."""

Setting = Any


def named(setting: Setting) -> Dict[str, str]:
    """Name → address, in the order of their descriptors."""
    if not setting:
        return {}
    return {MAIN: setting} if isinstance(setting, str) else {str(name): str(address) for name, address in setting}


def below(setting: Setting, shared: Path) -> Setting:
    """*setting* with the relative paths of Unix sockets below *shared*."""
    if not setting or (isinstance(setting, str) and not setting.startswith(UNIX)):
        return setting
    return [[name, _absolute(address, shared)] for name, address in named(setting).items()]


def _absolute(address: str, shared: Path) -> str:
    return f"{UNIX}{shared / address[len(UNIX) :]}" if address.startswith(UNIX) else address


def tcp_ports(setting: Setting) -> List[int]:
    """The ports among the addresses."""
    return [split(address)[1] for address in named(setting).values() if not address.startswith(UNIX)]


def split(address: str) -> Tuple[str, int]:
    """("127.0.0.1", 3001) from "127.0.0.1:3001"; brackets around a v6 address are dropped."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def bind(address: str, backlog: int = BACKLOG) -> socket.socket:
    """A listening socket on *address*. Raises OSError; a Unix socket that somebody listens on is one, a dead one is replaced."""
    if address.startswith(UNIX):
        return _bind_unix(Path(address[len(UNIX) :]), backlog)
    host, port = split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind_unix(path: Path, backlog: int) -> socket.socket:
    _require_dead(path)
    # In the place of a dead one by a rename: nobody ever finds nothing there.
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        with unix.short(fresh) as name:
            listener.bind(name)
        os.chmod(fresh, UNIX_MODE)
        listener.listen(backlog)
        os.rename(fresh, path)
    except BaseException:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    return listener


def _require_dead(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(17, "a file that is no socket", str(path))
    try:
        unix.connect(path, 1.0).close()
    except ConnectionRefusedError:
        return
    raise OSError(98, "somebody listens there already", str(path))


def close(address: str, listener: socket.socket) -> None:
    """Let go of *listener*; a Unix socket's name goes with it."""
    listener.close()
    if address.startswith(UNIX):
        try:
            os.unlink(address[len(UNIX) :])
        except OSError:
            pass


def take(handle: Handle, address: str) -> Optional[socket.socket]:
    """A duplicate of the very socket with which a process listens on *address* (pidfd_getfd, Linux 5.6), or None."""
    if not sys.platform.startswith("linux"):
        return None
    inodes = _candidates(address)
    for inode, number in ports.sockets_of(handle.identity.pid).items():
        if inode in inodes:
            found = _duplicate(handle, number)
            if found is not None and _listens_on(found, address):
                return found
            if found is not None:
                found.close()
    return None


def listens(handles: Sequence[Handle], address: str) -> bool:
    """Whether one of the processes holds a socket that keeps us from listening on *address*, as far as we may look."""
    inodes = _in_the_way(address)
    return bool(inodes) and any(inodes & set(ports.sockets_of(handle.identity.pid)) for handle in handles)


def takeable(handles: Sequence[Handle], address: str) -> bool:
    """Whether one of the processes listens on *address*, and we can share its socket for as long as we like."""
    if address.startswith(UNIX):
        return False  # whoever bound it may remove its name at his end, and nobody would find it any more
    for handle in handles:
        found = take(handle, address)
        if found is not None:
            found.close()
            return True
    return False


def collide(one: str, other: str) -> bool:
    """Whether two different addresses cannot be listened on at once: one port, and one of them for all addresses."""
    if one.startswith(UNIX) or other.startswith(UNIX) or one == other:
        return False
    (host, port), (other_host, other_port) = split(one), split(other)
    return port == other_port and any(name in _ALL for name in (host, other_host))


_ALL = ("0.0.0.0", "::")


def _candidates(address: str) -> Set[int]:
    return ports.unix_listeners() if address.startswith(UNIX) else ports.listening(split(address)[1])


def _in_the_way(address: str) -> Set[int]:
    if address.startswith(UNIX):
        return ports.unix_listeners(address[len(UNIX) :])
    host, port = split(address)
    hosts = {host, *_resolved(host), *_ALL}
    found = ports.listeners().items()
    return {inode for inode, (its, number) in found if number == port and (its in hosts or host in _ALL)}


def _duplicate(handle: Handle, number: int) -> Optional[socket.socket]:
    import ctypes

    pidfd_getfd = 438
    fd = ctypes.CDLL(None, use_errno=True).syscall(pidfd_getfd, handle.fileno(), number, 0)
    if fd < 0:
        return None
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)


def _listens_on(listener: socket.socket, address: str) -> bool:
    name = listener.getsockname()
    if address.startswith(UNIX):
        return _is_at(name, address[len(UNIX) :])
    host, port = split(address)
    return bool(name[1] == port and name[0] in {host, *_resolved(host)})


def _is_at(name: Any, path: str) -> bool:
    """Whether a Unix socket bound as *name* is the one at *path*; one of ours was bound under another name, and renamed."""
    if not isinstance(name, str):
        return False
    directory, last = os.path.split(name)
    here = os.path.dirname(path) == directory or directory.startswith(
        "/proc/self/fd/"
    )  # too long a path to be bound by
    return here and (last == os.path.basename(path) or last.startswith(f".{os.path.basename(path)}."))


def _resolved(host: str) -> Set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return {host}
