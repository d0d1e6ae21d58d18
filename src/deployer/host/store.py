"""
The file store: every file that a release in use has, once, under its hash and mode, shared with the releases by hard
links.

A hard link shares its inode, so an app that writes into its release in place changes the blob as well. The store
finds out (the blob no longer looks as it did when it was proven), hashes it, and drops it if it lies; the releases
that have it keep it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO, Collection, Dict, Iterable, List, Optional, Set

from deployer.errors import DeployerError, GateError
from deployer.host.blob_file import Bytes, Wanted, copy_blob, hash_blob, unlink, write_blob
from deployer.host.blob_index import BlobIndex, Look, look
from deployer.host.chunk_lists import ChunkLists
from deployer.host.disk import STATE, disk_errors, raise_disk_error, sync_filesystem
from deployer.manifest import Entry, Manifest, key

_KEY = re.compile(r"([0-9a-f]{64})-([0-7]{3})")
# EPERM: fs.protected_hardlinks, or a file system without links
_CANNOT_LINK = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)


KEPT_FROM = 1 << 20
"""Bytes of a file that are worth keeping when the link breaks in its middle."""


class Store:
    """
    The blobs below *root*. A blob has its name only once its content was proven, and is never trusted after it changed.

    One process uses a store at a time: the one that holds the deploy lock.
    """

    def __init__(self, root: Path) -> None:
        self._blobs = str(root / "blobs")
        self._incoming = str(root / "incoming")
        self._index = BlobIndex(str(root / "store.db"))
        self.chunk_lists = ChunkLists(str(root / "chunks"))
        self._proven: Optional[Dict[str, Look]] = None
        self._unsaved: Dict[str, Look] = {}
        with disk_errors("prepare the file store", str(root)):
            for path in (str(root), self._blobs, self._incoming):
                os.makedirs(path, mode=0o700, exist_ok=True)

    def missing(self, manifest: Manifest) -> List[Entry]:
        """Those of the manifest's blobs that must be sent before it can be staged."""
        with disk_errors("read the file store", self._blobs):
            there = set(os.listdir(self._blobs))
            return [
                entry for entry in manifest.blobs if key(entry) not in there or not self._has(key(entry), entry.size)
            ]

    def partial(self, key: str) -> int:
        """How many bytes of the blob a link that broke has left; where `receive` may go on."""
        try:
            status = os.lstat(self._part(key))
        except OSError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def receive(self, key: str, size: int, chunks: Iterable[Bytes], start: int = 0) -> None:
        """
        Take in the blob *key*: it is there whole and proven, or not at all. *start*: go on behind so many bytes that
        are here. When *chunks* breaks off, what came of a large one stays, for the next time.

        Raises GateError when the bytes are not what the key says, PreflightError when the disk refuses; what *chunks*
        raises passes.
        """
        matched = _KEY.fullmatch(key)
        if matched is None:
            raise GateError(
                f"{key!r:.100} is no name of a blob", state=STATE, hint="use the same deployer on both sides"
            )
        temporary = self._part(key)
        wanted = Wanted(matched.group(1), int(matched.group(2), 8), size, start)
        try:
            seen = write_blob(temporary, wanted, chunks)
            with disk_errors(f"store a file of {size:,} bytes", self._incoming):
                os.replace(temporary, self._path(key))
        except DeployerError:
            unlink(temporary)
            raise
        except BaseException:
            if self.partial(key) < KEPT_FROM:
                unlink(temporary)
            raise
        self._note(key, seen)

    def open(self, entry: Entry) -> Optional[BinaryIO]:
        """The blob of *entry* to read; None when the store has no good one."""
        name = key(entry)
        try:
            return open(self._path(name), "rb") if self._has(name, entry.size) else None
        except OSError:
            return None

    def link(self, entry: Entry, destination: str) -> bool:
        """
        Make *destination*, which must not exist, the file *entry*. Whether it shares the blob's inode; if not, it is
        a copy.

        Raises GateError when the blob is not in the store, or no longer what it was.
        """
        name = key(entry)
        if not self._has(name, entry.size):
            title = f"the file store has no good copy of {entry.path!r}"
            raise GateError(
                title, cause=f"blob {name} is missing or was changed", state=STATE, hint="push again: it is sent anew"
            )
        try:
            os.link(self._path(name), destination)
            return True
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise_disk_error(error, f"link {entry.path!r}", destination)
        with disk_errors(f"copy {entry.path!r}", destination):
            copy_blob(self._path(name), destination, entry.mode)
        return False

    @property
    def unsynced(self) -> bool:
        """Whether there are blobs of which nobody has made sure that they are on the disk: ours, or of a link that broke."""
        return bool(self._unsaved)

    def sync(self) -> None:
        """All blobs (and all else on their file system) are on the disk. Once per staging, after the last blob."""
        with disk_errors("write the file store to the disk", self._blobs):
            sync_filesystem(self._blobs)
        if self._unsaved:
            self._index.save(self._unsaved)
            self._unsaved = {}

    def collect(self, needed: Collection[str]) -> int:
        """
        Delete the blobs but those *needed*, by their names (`manifest.key`), and what a crash left. How many. Only under the
        deploy lock.
        """
        self.forget_partial()
        with disk_errors("clean up the file store", self._blobs):
            self.chunk_lists.keep({name[:64] for name in needed})
            unused: Set[str] = {name for name in os.listdir(self._blobs) if name not in needed}
            for name in unused:
                unlink(self._path(name))
        proven = self._looks()
        gone = [name for name in proven if name not in needed]
        for name in gone:
            del proven[name]
            self._unsaved.pop(name, None)
        if gone:
            self._index.save({}, gone)
        return len(unused)

    def forget_partial(self) -> None:
        """Nobody will go on with what broken links have left."""
        with disk_errors("clean up the file store", self._incoming):
            for name in os.listdir(self._incoming):
                unlink(f"{self._incoming}/{name}")

    def _part(self, name: str) -> str:
        return f"{self._incoming}/{name}.part"

    def _path(self, name: str) -> str:
        return f"{self._blobs}/{name}"

    def _looks(self) -> Dict[str, Look]:
        if self._proven is None:
            self._proven = {**self._index.load(), **self._unsaved}
        return self._proven

    def _note(self, name: str, seen: Look) -> None:
        self._unsaved[name] = seen
        if self._proven is not None:  # a store that only receives never reads its index
            self._proven[name] = seen

    def _has(self, name: str, size: int) -> bool:
        try:
            status = os.lstat(self._path(name))
        except FileNotFoundError:
            return False
        proper = stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == int(name[65:], 8)
        if proper and (self._looks().get(name) == look(status) or self._prove(name)):
            return status.st_size == size
        unlink(self._path(name))  # the name only: releases that share the inode keep it
        return False

    def _prove(self, name: str) -> bool:
        """Whether the blob is what its name says."""
        proof = hash_blob(self._path(name))
        if proof is None or proof[0] != name[:64]:
            return False
        self._note(name, proof[1])
        return True
