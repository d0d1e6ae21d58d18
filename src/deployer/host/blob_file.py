"""One blob as a file: written and proven, proven again, copied where it cannot be linked."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from dataclasses import dataclass
from typing import Iterable, Optional, Tuple, Union

from deployer.errors import GateError
from deployer.host.blob_index import Look, look
from deployer.host.disk import STATE, disk_errors

Bytes = Union[bytes, memoryview]
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Wanted:
    """What a blob shall be; its first *start* bytes, which nobody has proven, are in the file already."""

    sha256: str
    mode: int
    size: int
    start: int = 0


def write_blob(path: str, wanted: Wanted, chunks: Iterable[Bytes]) -> Look:
    """
    Write *chunks* to *path* and prove them. On an error the caller deletes what there is.

    Raises GateError when it is not what was *wanted*, PreflightError when the disk refuses; what *chunks* raises (the
    link may break) passes as it is.
    """
    doing = f"store a file of {wanted.size:,} bytes"
    digest, written = hashlib.sha256(), wanted.start
    with disk_errors(doing, path):
        file = _open(path, wanted.start, digest)
    try:
        for chunk in chunks:
            written += len(chunk)
            if written > wanted.size:
                raise _damaged(f"more than the announced {wanted.size:,} bytes came")
            digest.update(chunk)
            with disk_errors(doing, path):
                file.write(chunk)
        if written != wanted.size or digest.hexdigest() != wanted.sha256:
            came = f"{written:,} of {wanted.size:,} bytes came"
            raise _damaged(f"{came}; hash {digest.hexdigest()[:12]}, not {wanted.sha256[:12]}")
        with disk_errors(doing, path):
            return _finish(file.fileno(), wanted.mode)
    finally:
        file.close()


def _open(path: str, start: int, digest: hashlib._Hash) -> io.FileIO:
    """The file to be written, unbuffered: what comes is large, or one write."""
    if start == 0:
        try:
            return _Whole(os.open(path, _CREATE, 0o600), "wb")
        except FileExistsError:  # what a crash left
            unlink(path)
            return _Whole(os.open(path, _CREATE, 0o600), "wb")
    file = _Whole(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+b")
    try:
        left = start
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
        file.truncate(start)
        file.seek(start)
    except OSError:
        file.close()
        raise
    return file


class _Whole(io.FileIO):
    """A file whose `write` writes all of it, or raises OSError."""

    def write(self, data: Bytes) -> int:  # type: ignore[override]
        view = memoryview(data)
        while view:
            view = view[super().write(view) :]
        return len(data)


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
