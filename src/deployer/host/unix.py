"""Unix sockets below a deep directory: a path may be longer than the 107 bytes that the kernel takes."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from deployer.errors import PreflightError

LONGEST = 100


@contextmanager
def short(path: Path) -> Iterator[str]:
    """A name for *path* that fits into a socket address, valid inside the block."""
    if len(os.fsencode(path)) <= LONGEST:
        yield str(path)
        return
    if not os.path.isdir("/proc/self/fd"):
        raise OSError(errno.ENAMETOOLONG, "a socket's name is too long for this system", str(path))
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def require_short(path: Path) -> None:
    """Raises PreflightError where a socket at *path* would have too long a name for this system."""
    if len(os.fsencode(path)) > LONGEST and not os.path.isdir("/proc/self/fd"):
        raise PreflightError(
            "this path is too deep for this system",
            cause=f"{path} has {len(os.fsencode(path))} bytes, and the name of a socket at most {LONGEST}",
            state="nothing was changed",
            hint="give the target a shorter path: /Users/me/app, or /opt/app",
        )


def listen(path: Path) -> socket.socket:
    """A listening stream socket at *path*, 0600, in the place of a dead one. The caller holds the lock that makes it ours."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink()
    except FileNotFoundError:
        pass
    with short(path) as name:
        server.bind(name)
    os.chmod(path, 0o600)
    server.listen(64)
    return server


def connect(path: Path, timeout: float) -> socket.socket:
    """A connection to the socket at *path*. Raises OSError when nobody listens there."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout)
    try:
        with short(path) as name:
            client.connect(name)
    except BaseException:
        client.close()
        raise
    return client
