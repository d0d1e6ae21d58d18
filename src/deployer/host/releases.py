"""
The releases of an app on its host: staged whole, activated by one rename, and never confused with what else lies there.

`.deployer/manifests/<id>.json` is written last and makes a directory a release; `<id>.staging` is written first and
makes what a crash left recognisable. Everything else in releases/ belongs to somebody else and is left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Collection, List, Optional, Sequence, Set

from deployer.errors import DeployerError, GateError, PreflightError
from deployer.host.disk import STATE, disk_errors, remove_quietly, remove_tree, sync_directory, write_atomically
from deployer.host.layout import lay_out
from deployer.host.shared import link_shared
from deployer.host.store import Store
from deployer.manifest import Manifest, blob_name, canonical, is_release_id

_LAYOUT = (
    ("", 0o755),
    ("releases", 0o755),
    ("shared", 0o711),
    ("logs", 0o700),
    (".deployer", 0o700),
    (".deployer/manifests", 0o700),
)
_REMOVED = ".removed-"


@dataclass(frozen=True)
class Staged:
    """What staging laid out; *linked* of the files share their bytes with other releases."""

    files: int
    bytes_total: int
    linked: int


class Releases:
    """Everything below *path* (absolute). Whoever changes something here holds the deploy lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = str(path)
        self._releases = str(path / "releases")
        self._manifests = str(path / ".deployer" / "manifests")

    def prepare(self) -> None:
        """
        Make the directories of section 8 of the contract; the modes of those that exist are the owner's, but
        .deployer is private.

        releases/ may not be a link: the links in a release find shared/ from where they really are.
        """
        with disk_errors(f"prepare {self._root}", self._root):
            for name, mode in _LAYOUT:
                _make_directory(f"{self._root}/{name}", mode, may_be_link=name in ("", "shared", "logs"))
            if stat.S_IMODE(os.stat(f"{self._root}/.deployer").st_mode) != 0o700:
                os.chmod(f"{self._root}/.deployer", 0o700)

    def directory(self, release_id: str) -> Path:
        """Where the release is, whether or not it exists. Raises GateError for an id that is none."""
        if not is_release_id(release_id):
            raise GateError(f"{release_id!r} is no release id", state=STATE, hint="`deployer releases` lists them")
        return self.path / "releases" / release_id

    def stage(self, release_id: str, manifest: Manifest, store: Store) -> Staged:
        """
        Lay the release out in its final place (a venv has its path in it), from the blobs of *store*, and record its
        manifest.

        A half of it that a crash left is removed first. On an error the half is removed, if the disk lets us.
        """
        directory = str(self.directory(release_id))
        self._refuse_current(release_id, "staged again")
        with disk_errors(f"stage {release_id}", directory):
            self._discard(release_id)
            write_atomically(self._record(release_id, "staging"), b"")
        try:
            with disk_errors(f"stage {release_id}", directory):
                linked = lay_out(directory, manifest, store)
                store.sync()
                write_atomically(self._record(release_id, "json"), canonical(manifest.to_json()).encode("ascii"))
                os.unlink(self._record(release_id, "staging"))
        except DeployerError:
            self._discard_quietly(release_id)
            raise
        return Staged(len(manifest.files), manifest.bytes_total, linked)

    def manifest(self, release_id: str) -> Optional[Manifest]:
        """The manifest that was staged; None when there is none that can be read."""
        self.directory(release_id)
        try:
            with open(self._record(release_id, "json"), "rb") as file:
                return Manifest.from_json(json.load(file))
        except (OSError, ValueError):
            return None

    def blobs(self, release_id: str) -> Set[str]:
        """
        The names of the blobs that the release is made of, as recorded: what was checked when it came is not checked again.
        """
        try:
            with open(self._record(release_id, "json"), "rb") as file:
                return {blob_name(row["sha256"], row["mode"]) for row in json.load(file) if row["type"] == "f"}
        except (OSError, ValueError, TypeError, KeyError):
            return set()  # as for `manifest`: there is none that can be read

    def recorded_digest(self, release_id: str) -> Optional[str]:
        """The digest of the manifest that was staged, without reading what it says; None when there is none."""
        try:
            with open(self._record(release_id, "json"), "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()  # it is written as what the digest is made of
        except OSError:
            return None

    def link_shared(self, release_id: str, linked: Sequence[str]) -> None:
        """Each of the *linked* paths of the release becomes a link into shared/; see `deployer.host.shared`."""
        link_shared(self._root, str(self.directory(release_id)), linked)

    def flip(self, release_id: str) -> None:
        """
        `current` is the release, by one rename: at no moment is it missing or half. On the disk when this returns.
        """
        if not _is_directory(str(self.directory(release_id))):
            raise GateError(
                f"there is no release {release_id} on this host", state=STATE, hint="`deployer releases` lists them"
            )
        current = f"{self._root}/current"
        with disk_errors(f"switch to {release_id}", self._root):
            if os.path.lexists(current) and not os.path.islink(current):
                cause = "deployer would have to replace a file or directory that it did not make"
                raise PreflightError(
                    f"{current} is not a symbolic link", cause=cause, state=STATE, hint="move it away, then push again"
                )
            os.replace(self._next_link(f"releases/{release_id}"), current)
            sync_directory(self._root)

    def prepare_flip(self, release_id: str) -> None:
        """Make all that a flip to the release, and one back, take from the disk: neither fails on a full one after this."""
        with disk_errors(f"prepare the switch to {release_id}", self._root):
            self._next_link(f"releases/{release_id}")

    def _next_link(self, target: str) -> str:
        """A link to *target* to be renamed over `current`; the way back is made before the way forth."""
        current, forth, back = (f"{self._root}/{name}" for name in ("current", ".current.next", ".current.back"))
        for link in (back, forth):
            if _target(link) == target:
                return link
        for link, to in ((back, _target(current)), (forth, target)):
            remove_tree(link)
            if to is not None:
                os.symlink(to, link)
        return forth

    def forget_way_back(self) -> None:
        """Nobody will flip back any more."""
        remove_quietly(f"{self._root}/.current.back")

    def unset(self) -> None:
        """`current` is nothing any more, as before the first release."""
        with disk_errors("take `current` back", self._root):
            if os.path.lexists(f"{self._root}/current"):
                os.unlink(f"{self._root}/current")
            sync_directory(self._root)

    def there(self, release_id: str) -> bool:
        """Whether the directory of the release exists."""
        return os.path.isdir(f"{self._releases}/{release_id}")

    def current(self) -> Optional[str]:
        """
        The id that `current` points to, whether or not that release is still there; None when it points elsewhere.
        """
        try:
            target = os.path.normpath(str(self.path / os.readlink(f"{self._root}/current")))
        except OSError:
            return None
        parent, name = os.path.split(target)
        return name if parent == os.path.normpath(self._releases) and is_release_id(name) else None

    def listing(self) -> List[str]:
        """The ids of all whole releases, oldest first."""
        whole = (name for name in self._recorded("json") if _is_directory(f"{self._releases}/{name}"))
        return sorted(name for name in whole if is_release_id(name))

    def remove(self, release_id: str) -> None:
        """Delete a release. It loses its name first: a crash leaves a hidden directory, never half a release."""
        self._refuse_current(release_id, "removed")
        with disk_errors(f"remove {release_id}", str(self.directory(release_id))):
            self._discard(release_id)

    def prune(self, keep: int, protected: Collection[str], order: Sequence[str]) -> List[str]:
        """
        Remove the releases of *order* (newest first) beyond the *keep* newest that exist, but none of *protected* and
        not `current`.

        The ids that went. One that the disk does not let go is left for the next time: a push that succeeded does not
        fail on this.
        """
        there = set(self.listing())
        surplus = [name for name in dict.fromkeys(order) if name in there][max(keep, 0) :]
        spared = {*protected, self.current() or ""}
        removed = [name for name in surplus if name not in spared and self._discard_quietly(name)]
        for name in self._leftovers() - spared:
            self._discard_quietly(name)
        return removed

    def _discard(self, release_id: str) -> None:
        directory, hidden = f"{self._releases}/{release_id}", f"{self._releases}/{_REMOVED}{release_id}"
        remove_tree(hidden)
        if os.path.lexists(directory):
            os.rename(directory, hidden)
        remove_tree(self._record(release_id, "json"))
        remove_tree(hidden)
        remove_tree(self._record(release_id, "staging"))

    def _discard_quietly(self, release_id: str) -> bool:
        try:
            self._discard(release_id)
        except OSError:
            return False
        return True

    def _leftovers(self) -> Set[str]:
        """Ids of what crashes left: half staged, or half removed while nobody staged it anew."""
        there = set(_names(self._releases))
        half = self._recorded("staging") - self._recorded("json")
        hidden = {name[len(_REMOVED) :] for name in there if name.startswith(_REMOVED)}
        return {name for name in half | (hidden - there) if is_release_id(name)}

    def _recorded(self, suffix: str) -> Set[str]:
        return {name.rpartition(".")[0] for name in _names(self._manifests) if name.endswith(f".{suffix}")}

    def _record(self, release_id: str, suffix: str) -> str:
        return f"{self._manifests}/{release_id}.{suffix}"

    def _refuse_current(self, release_id: str, what: str) -> None:
        if release_id == self.current():
            title = f"{release_id} is the current release and cannot be {what}"
            raise PreflightError(title, state=STATE, hint="`deployer status` shows what runs")


def _make_directory(path: str, mode: int, may_be_link: bool) -> None:
    if not os.path.lexists(path):
        os.makedirs(path)
        os.chmod(path, mode)
    elif not (os.path.isdir(path) if may_be_link else _is_directory(path)):
        cause = "it is something else, or a link"
        raise PreflightError(
            f"{path} is not a directory", cause=cause, state=STATE, hint="move it away, then push again"
        )


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _target(link: str) -> Optional[str]:
    try:
        return os.readlink(link)
    except OSError:
        return None


def _names(path: str) -> List[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
