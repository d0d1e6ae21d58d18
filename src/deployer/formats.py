"""
The two archive formats, each read into the same plain members: nothing is judged here but what a format itself can
hide.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from deployer.members import Refused

LARGEST_HEADER = 16 << 20
_UNIX = 3  # the "made by" of a zip member whose attributes are a Unix mode
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Member:
    """
    One member as the archive tells it: "f" (with `open`), "d", "l" (symbolic) or "h" (hard link to an earlier
    member).
    """

    name: str
    type: str
    mode: int
    target: str = ""
    size: int = 0
    open: Callable[[], IO[bytes]] | None = None


def tar_members(path: Path, limit: int) -> Iterator[Member]:
    """
    The members of a tar; its compression is told by the content. Raises EOFError when the end of the archive is not
    there.
    """
    with ExitStack() as stack:
        stream = _decompressed(stack.enter_context(path.open("rb")))
        bounded: Any = _Bounded(stream, 2 * limit + 4 * LARGEST_HEADER)
        tar = stack.enter_context(tarfile.open(fileobj=bounded, mode="r:", errors="surrogateescape", encoding="utf-8"))
        for info in tar:
            yield _tar_member(tar, info)
        # tarfile takes a damaged header for the end: only zeros are one.
        bounded.seek(tar.offset)
        if bounded.read(_BLOCK) != bytes(_BLOCK):
            raise EOFError("the end of the archive is missing")
        while bounded.read(1 << 20):  # the checksum of the compression comes last
            pass


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    mode = info.mode & 0o777
    if info.isreg():
        return Member(info.name, "f", mode, size=info.size, open=partial(_tar_content, tar, info))
    if info.isdir():
        return Member(info.name, "d", mode)
    if info.issym():
        return Member(info.name, "l", 0o777, info.linkname)
    if info.islnk():
        return Member(info.name, "h", mode, info.linkname)
    raise Refused(info.name, "is a device, a fifo or of an unknown kind")


def _tar_content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(info)
    assert content is not None  # only asked for regular files
    return content


def _decompressed(raw: IO[bytes]) -> IO[bytes]:
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if magic == b"\xfd7zXZ\0":
        return lzma.LZMAFile(raw)
    return raw


class _Bounded:
    """A stream that gives no more than *most* bytes, and none of its headers a chance to fill the memory."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._most = stream, most

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_HEADER:
            raise ValueError(f"a header of {size:,} bytes")
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        if position > self._most:
            raise ValueError("the archive unpacks to more than it may")
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


def zip_members(path: Path, limit: int) -> Iterator[Member]:
    """The members of a zip or wheel; modes and symbolic links are in the attributes that Unix tools write."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            yield _zip_member(archive, info)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = _zip_name(info)
    unix = info.external_attr >> 16 if info.create_system == _UNIX else 0
    kind = stat.S_IFMT(unix)
    mode = unix & 0o777
    if info.flag_bits & 0x1:
        raise Refused(name, "is encrypted")
    if kind == stat.S_IFLNK:
        return Member(name, "l", 0o777, _zip_target(archive, info, name))
    if info.is_dir() or kind == stat.S_IFDIR:
        return Member(name, "d", mode or 0o755)
    if kind in (0, stat.S_IFREG):
        return Member(name, "f", mode or 0o644, size=info.file_size, open=partial(archive.open, info))
    raise Refused(name, "is a device, a fifo or of an unknown kind")


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name in full (zipfile ends it at a NUL), and as UTF-8 where a tool wrote that but did not say so."""
    if info.flag_bits & 0x800:
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.orig_filename


def _zip_target(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> str:
    with archive.open(info) as content:
        target = content.read(4096)
    if len(target) >= 4096:
        raise Refused(name, "is a link with a target of more than 4 KiB")
    return target.decode("utf-8", "surrogateescape")
