"""
Archives: a .tar (plain, gzip, bzip2, xz), a .zip or a .whl becomes entries and bytes, and can do no harm on the way.

Nothing is written under a member's name. All content goes, hashed and counted, into one spool file that has no name
either, so there is no path to escape by and nothing to clean up after a crash.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from deployer.errors import GateError
from deployer.manifest import Entry
from deployer.members import Node, Piece, Refused, Tree

if TYPE_CHECKING:
    from deployer.formats import Member

MOST_BYTES = 8 << 30
MOST_MEMBERS = 1_000_000
CHUNK = 1 << 20
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip", ".whl")
STATE = "nothing was unpacked, and nothing was changed on any host"


def is_archive(path: Path) -> bool:
    """Whether `unpack` takes *path*; told by its name, as a person would."""
    return path.name.lower().endswith(SUFFIXES)


@dataclass(frozen=True)
class Unpacked:
    """The entries of an archive and their bytes, for as long as its `unpack` block lasts."""

    entries: list[Entry]
    _spool: Spool
    _pieces: dict[str, Piece]

    def open(self, entry: Entry) -> BinaryIO:
        return self._spool.open(self._pieces[entry.path])


@contextmanager
def unpack(path: Path, limit: int = MOST_BYTES) -> Iterator[Unpacked]:
    """
    The content of the archive at *path*, at most *limit* bytes of it and never more than the temp directory has room
    for.

    Raises GateError that names the member for whatever would lead out of the archive, cannot be a file of a release,
    or is damaged.
    """
    with tempfile.TemporaryFile(prefix="deployer-") as file:
        yield _read(path, Spool(file, limit))


class Spool:
    """
    Bytes in the order in which they came, at most *limit*, read back piece by piece (from several threads at once).
    """

    def __init__(self, file: IO[bytes], limit: int) -> None:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        self._file = file
        self._size = 0
        self.limit = min(limit, free)
        self.why = f"the limit of {limit:,} bytes" if limit <= free else f"the free space of {tempfile.gettempdir()}"

    def take(self, name: str, source: IO[bytes]) -> Piece:
        offset, digest = self._size, hashlib.sha256()
        while chunk := source.read(CHUNK):
            self._size += len(chunk)
            if self._size > self.limit:
                raise Refused(name, f"does not fit: the content is larger than {self.why}")
            digest.update(chunk)
            self._file.write(chunk)
        return Piece(offset, self._size - offset, digest.hexdigest())

    def open(self, piece: Piece) -> BinaryIO:
        return io.BufferedReader(_Slice(self._file.fileno(), piece), CHUNK)

    def flush(self) -> None:
        self._file.flush()


class _Slice(io.RawIOBase):
    """One piece of the spool as a file; pread, because readers share the descriptor."""

    def __init__(self, fd: int, piece: Piece) -> None:
        self._fd, self._at, self._end = fd, piece.offset, piece.offset + piece.size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        data = os.pread(self._fd, min(len(buffer), self._end - self._at), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _read(path: Path, spool: Spool) -> Unpacked:
    from deployer.formats import tar_members, zip_members  # 10 ms, and most artifacts are directories

    try:
        reader = zip_members if path.name.lower().endswith((".zip", ".whl")) else tar_members
        tree = _collect(reader(path, spool.limit), spool)
        entries = list(tree.entries())
        spool.flush()
    except Refused as error:
        raise _refusal(path, error) from None
    except Exception as error:  # the parsers raise a dozen kinds, struct.error to KeyError, for a damaged file
        raise _damaged(path, error) from error
    return Unpacked(entries, spool, {name: node.piece for name, node in tree.nodes.items() if node.piece})


def _collect(members: Iterable[Member], spool: Spool) -> Tree:
    tree = Tree()
    for count, member in enumerate(members):
        if count >= MOST_MEMBERS:
            raise Refused(member.name, f"is one too many: there are more than {MOST_MEMBERS:,} members")
        if member.type == "h":
            tree.hard_link(member.name, member.target)
        elif member.open is None:
            tree.add(member.name, Node(member.type, member.mode, member.target))
        else:
            with member.open() as source:
                piece = spool.take(member.name, source)
            if piece.size != member.size:
                raise EOFError(f"{member.name!r} ends after {piece.size:,} of {member.size:,} bytes")
            tree.add(member.name, Node("f", member.mode, piece=piece))
    return tree


def _refusal(path: Path, error: Refused) -> GateError:
    return GateError(
        f"{path.name} holds a member that is not unpacked: {error.member!r}",
        cause=f"it {error.why}",
        state=STATE,
        hint="build the archive again without it",
    )


def _damaged(path: Path, error: BaseException) -> GateError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        title, hint = f"{path.name} could not be unpacked", f"make room in {tempfile.gettempdir()}, or set TMPDIR"
    elif isinstance(error, OSError) and error.errno:
        title, hint = f"{path} could not be read", "look at the file and its permissions"
    else:
        title, hint = f"{path.name} is truncated, damaged or no archive", "build it again"
    return GateError(title, cause=str(error) or type(error).__name__, state=STATE, hint=hint)
