"""The artifact: what a build left behind, as a manifest and the bytes behind it, whatever form it has."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from deployer import archive
from deployer.cuts import Cuts
from deployer.errors import GateError, UsageError
from deployer.manifest import Entry, Manifest

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

STATE = "nothing was changed on any host"
CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a fifo that took the file's place does not hang us
Seen = tuple[int, int, int]  # inode, size, mtime_ns


@dataclass(frozen=True)
class Artifact:
    """A manifest and the way to its bytes, for as long as the `open_artifact` block lasts."""

    manifest: Manifest
    _open: Callable[[Entry], BinaryIO]
    cuts: Cuts = field(default_factory=Cuts)

    def open(self, entry: Entry) -> BinaryIO:
        """The bytes of the file *entry*. Raises GateError when the file is no longer the one in the manifest."""
        return self._open(entry)


@contextmanager
def open_artifact(path: Path, exclude: Sequence[str], limit: int = archive.MOST_BYTES) -> Iterator[Artifact]:
    """
    The artifact at *path*: a directory, an archive (unpacked, at most *limit* bytes) or a single file.

    *exclude* is gitignore syntax and holds for directories and archives. Symbolic links are kept as they are, never
    followed. Raises GateError for what cannot be released: missing, empty, unreadable, changing, or a socket, fifo or
    device.
    """
    excluded = _Excluded(exclude)
    kind = _kind(path)
    if kind == stat.S_IFDIR:
        yield _from_disk(path, _walk(os.fspath(path), excluded))
    elif kind != stat.S_IFREG:
        raise _special(path.name)
    elif archive.is_archive(path):
        with archive.unpack(path, limit) as unpacked:
            yield Artifact(_manifest(path, excluded.drop(unpacked.entries)), unpacked.open)
    else:
        yield _from_disk(path, [_hashed(os.path.realpath(path), path.name)])


class _Excluded:
    """What `build.exclude` leaves out; below an excluded directory nothing can be taken back, as in git."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._spec = _spec(patterns) if patterns else None

    def __call__(self, path: str, directory: bool) -> bool:
        return self._spec is not None and self._spec.match_file(f"{path}/" if directory else path)

    def drop(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The *entries* that stay, with the rules of a walk that does not enter an excluded directory."""
        gone: set[str] = set()
        for entry in sorted(entries, key=lambda entry: entry.path.split("/")):
            if entry.path.rpartition("/")[0] in gone or self(entry.path, entry.type == "d"):
                gone.add(entry.path)
            else:
                yield entry


def _spec(patterns: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # 10 ms, and many configs exclude nothing

    try:
        # "simple": the compiled backends cannot take a name that is not UTF-8
        return GitIgnoreSpec.from_lines(patterns, backend="simple")
    except ValueError as error:
        raise UsageError("build.exclude has a bad pattern", cause=str(error), state=STATE) from error


def _kind(path: Path) -> int:
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError as error:
        hint = "look at build.artifact in deploy.toml, or build first"
        raise GateError(f"there is no artifact at {path}", cause=str(error), state=STATE, hint=hint) from error
    except (OSError, ValueError) as error:
        raise _unreadable(str(path), error) from error


def _from_disk(path: Path, found: Iterable[tuple[Entry, Seen, str]]) -> Artifact:
    known = {entry.path: (entry, seen, where) for entry, seen, where in found}

    def reopen(entry: Entry) -> BinaryIO:
        _, seen, where = known[entry.path]
        return _same_file(where, entry.path, seen)

    return Artifact(_manifest(path, (entry for entry, _, _ in known.values())), reopen)


def _walk(root: str, excluded: _Excluded) -> Iterator[tuple[Entry, Seen, str]]:
    pending = [""]
    while pending:
        prefix = pending.pop()
        for child in _children(root, prefix):
            path = f"{prefix}{child.name}"
            directory = child.is_dir(follow_symlinks=False)
            if excluded(path, directory):
                continue
            if directory:
                pending.append(f"{path}/")
            if child.is_file(follow_symlinks=False):
                yield _hashed(child.path, path)
            else:
                yield _unhashed(child, path), (0, 0, 0), child.path


def _children(root: str, prefix: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(f"{root}/{prefix}") as listing:
            return list(listing)
    except OSError as error:
        raise _unreadable(prefix or root, error) from error


def _unhashed(child: os.DirEntry[str], path: str) -> Entry:
    try:
        if child.is_symlink():
            return Entry(path, "l", 0o777, target=os.readlink(child.path))
        if child.is_dir(follow_symlinks=False):
            return Entry(path, "d", child.stat(follow_symlinks=False).st_mode & 0o777)
    except OSError as error:
        raise _unreadable(path, error) from error
    raise _special(path)


def _hashed(where: str, path: str) -> tuple[Entry, Seen, str]:
    try:
        fd = os.open(where, _READ)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        before = os.fstat(fd)
        digest, size = _digest(fd)
        after = os.fstat(fd)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(fd)
    if _seen(before) != _seen(after) or size != after.st_size:
        raise _changed(path)
    return Entry(path, "f", before.st_mode & 0o777, size, digest), _seen(after), where


def _digest(fd: int) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := os.read(fd, CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _same_file(where: str, path: str, seen: Seen) -> BinaryIO:
    try:
        file = os.fdopen(os.open(where, _READ), "rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    if _seen(os.fstat(file.fileno())) != seen:
        file.close()
        raise _changed(path)
    return file


def _seen(status: os.stat_result) -> Seen:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _manifest(path: Path, entries: Iterable[Entry]) -> Manifest:
    manifest = Manifest(entries)
    try:
        manifest.check()  # what the host would refuse is refused before anything is sent
    except ValueError as error:
        raise GateError(
            f"{path} has a name that cannot be released", cause=str(error), state=STATE, hint=_EXCLUDE
        ) from error
    if all(entry.type == "d" for entry in manifest.entries):
        hint = "look at build.artifact and build.exclude in deploy.toml"
        raise GateError(f"the artifact {path} is empty", cause="there is not one file in it", state=STATE, hint=hint)
    return manifest


_EXCLUDE = "rename it, or name it in build.exclude"


def _special(path: str) -> GateError:
    cause = "it is a socket, a fifo or a device"
    return GateError(f"{path!r} cannot be part of a release", cause=cause, state=STATE, hint="name it in build.exclude")


def _changed(path: str) -> GateError:
    hint = "let the build end before its files are read, or name the file in build.exclude"
    return GateError(f"{path!r} changed while it was read", cause="something still writes it", state=STATE, hint=hint)


def _unreadable(path: str, error: Exception) -> GateError:
    hint = "look at its permissions, or name it in build.exclude"
    return GateError(f"{path!r} could not be read", cause=str(error), state=STATE, hint=hint)
