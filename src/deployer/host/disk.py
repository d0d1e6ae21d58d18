"""
The disk of a host: what its refusals mean to a person, how to make it durable, how to delete a tree whatever its
modes.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, NoReturn, Type

from deployer.errors import DeployerError, GateError, PreflightError

STATE = "the running release was not touched"

LEFT_BYTES, LEFT_INODES = 1 << 20, 20
"""With less than this an app is not stopped for a new release, which may need room to start."""

_HINTS = {
    errno.ENOSPC: "make room there, or keep fewer releases (`keep` of the target), then push again",
    errno.EDQUOT: "raise the quota of the login user, or keep fewer releases (`keep` of the target), then push again",
    errno.EROFS: "mount it writable, or choose another `path` for the target",
    errno.EACCES: "give the login user this path, or choose another `path` for the target",
    errno.EPERM: "give the login user this path, or choose another `path` for the target",
    errno.EIO: "look at the disk of this host (`dmesg`)",
}
_OF_THE_CONTENT = (errno.ENAMETOOLONG, errno.EEXIST, errno.EILSEQ, errno.EINVAL, errno.ELOOP)


@contextmanager
def disk_errors(doing: str, path: str) -> Iterator[None]:
    """
    An OSError in here becomes a DeployerError: "could not <doing>", why, with figures of the disk that holds *path*.
    """
    try:
        yield
    except OSError as error:
        raise_disk_error(error, doing, path)


def raise_disk_error(error: OSError, doing: str, path: str) -> NoReturn:
    """Exit 6 for what is wrong with the host, 7 for a name that this file system cannot hold."""
    number = error.errno or 0
    kind: Type[DeployerError] = GateError if number in _OF_THE_CONTENT else PreflightError
    cause = str(error)
    if number in (errno.ENOSPC, errno.EDQUOT):
        cause = f"{error.strerror}; {figures(path)}"
    hint = _HINTS.get(number, "look at this path on the host")
    raise kind(f"could not {doing}", cause=cause, state=STATE, hint=hint) from error


def figures(path: str) -> str:
    """Free bytes and inodes of the file system that holds *path*, as a clause."""
    there = next((str(one) for one in (Path(path), *Path(path).parents) if one.exists()), "/")
    status = os.statvfs(there)
    inodes = f", {status.f_favail:,} inodes" if status.f_files else ""
    return f"{there} has {status.f_bavail * status.f_frsize:,} bytes{inodes} free"


def require_room(path: str, doing: str) -> None:
    """Raise PreflightError when the disk that holds *path* is as good as full: no moment to *doing*."""
    status = os.statvfs(path)
    if status.f_bavail * status.f_frsize < LEFT_BYTES or (status.f_files and status.f_favail < LEFT_INODES):
        raise_disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), doing, path)


def sync_filesystem(path: str) -> None:
    """Everything written so far to the file system of *path* is on its disk: one call, not one fsync per file."""
    import ctypes  # 10 ms, and only a push needs it

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """The names in the directory *path* are on its disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def reserve(path: str, size: int) -> bool:
    """
    Whether the next *size* bytes that are appended to the file *path* have their place on the disk now.

    What is in it, and how long it is, stay as they are. Not every file system can: best effort.
    """
    import ctypes

    keep_size = 1
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        end = ctypes.c_int64(os.fstat(fd).st_size)
        return fallocate is not None and fallocate(fd, keep_size, end, ctypes.c_int64(size)) == 0
    finally:
        os.close(fd)


def write_atomically(path: str, data: bytes, mode: int = 0o600) -> None:
    """*path* has all of *data* or what it had before, also after a power cut, with *mode*. One writer at a time."""
    temporary = f"{path}.next"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.replace(temporary, path)
    except OSError:
        remove_quietly(temporary)
        raise
    sync_directory(os.path.dirname(path))


def remove_quietly(path: str) -> None:
    """Delete what a failure left at *path*, if the disk lets us: the failure itself is what must be told."""
    try:
        remove_tree(path)
    except OSError:
        pass


def remove_tree(path: str) -> None:
    """Delete what stands at *path*, file, link or directory, read-only directories included. Nothing there is fine."""
    try:
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
            return
        try:
            shutil.rmtree(path)
        except PermissionError:
            _open_directories(path)
            shutil.rmtree(path)
    except FileNotFoundError:
        pass


def _open_directories(path: str) -> None:
    os.chmod(path, 0o700)
    for parent, directories, _ in os.walk(path):
        for name in directories:
            if not os.path.islink(f"{parent}/{name}"):
                os.chmod(f"{parent}/{name}", 0o700)
