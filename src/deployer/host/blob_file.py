"""One blob as a file: written and proven, proven again, copied where it cannot be linked."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from typing import IO, Iterable, Optional, Tuple

from deployer.errors import GateError
from deployer.host.blob_index import Look, look
from deployer.host.disk import STATE, disk_errors

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_blob(path: str, sha256: str, mode: int, size: int, chunks: Iterable[bytes]) -> Look:
    """
    Write *chunks* to *path* and prove them. On an error the caller deletes what there is.

    Raises GateError when they are not *size* bytes with the hash *sha256*, PreflightError when the disk refuses; what
    *chunks* raises (the link may break) passes as it is.
    """
    doing = f"store a file of {size:,} bytes"
    with disk_errors(doing, path):
        unlink(path)
        file: IO[bytes] = os.fdopen(os.open(path, _CREATE, 0o600), "wb", 1 << 16)
    try:
        digest, written = hashlib.sha256(), 0
        for chunk in chunks:
            written += len(chunk)
            if written > size:
                raise _damaged(f"more than the announced {size:,} bytes came")
            digest.update(chunk)
            with disk_errors(doing, path):
                file.write(chunk)
        if written != size or digest.hexdigest() != sha256:
            raise _damaged(f"{written:,} of {size:,} bytes came; hash {digest.hexdigest()[:12]}, not {sha256[:12]}")
        with disk_errors(doing, path):
            file.flush()
            return _finish(file.fileno(), mode)
    finally:
        try:
            file.close()
        except OSError:  # what could not be flushed has been reported
            pass


def hash_blob(path: str) -> Optional[Tuple[str, Look]]:
    """
    The hash and the look of a file that stayed the same while it was read; None when it did not, or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            before = look(os.fstat(file.fileno()))
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
            after = look(os.fstat(file.fileno()))
    except OSError:
        return None
    return (digest.hexdigest(), after) if before == after else None


def copy_blob(source: str, destination: str, mode: int) -> None:
    """A file of its own with the bytes, *mode* and mtime of the blob. Raises OSError."""
    with open(source, "rb") as blob, os.fdopen(os.open(destination, _CREATE, 0o600), "wb") as file:
        shutil.copyfileobj(blob, file, 1 << 20)
        file.flush()
        os.fchmod(file.fileno(), mode)
    status = os.stat(source)
    os.utime(destination, ns=(status.st_atime_ns, status.st_mtime_ns))


def unlink(path: str) -> None:
    """There is no file at *path*."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _finish(fd: int, mode: int) -> Look:
    """A second in the past: any later write changes the mtime, however coarse the clock of the file system is."""
    os.fchmod(fd, mode)
    moment = (int(time.time()) - 1) * 10**9
    os.utime(fd, ns=(moment, moment))
    return look(os.fstat(fd))


def _damaged(cause: str) -> GateError:
    return GateError("a file was damaged on its way to the host", cause=cause, state=STATE, hint="push again")
