"""How a manifest becomes a directory: in an order in which there is never a link that something is written through."""

from __future__ import annotations

import os

from deployer.host.store import Store
from deployer.manifest import Manifest


def lay_out(directory: str, manifest: Manifest, store: Store) -> int:
    """
    Make *directory*, which must not exist: directories, then files, then links, then the directories' own modes.

    How many of the files are hard links. Raises OSError, and what `Store.link` raises.
    """
    os.mkdir(directory, 0o700)
    directories = [entry for entry in manifest.entries if entry.type == "d"]
    for entry in directories:
        os.mkdir(_with_parent(directory, entry.path), 0o700)
    linked = _link_files(directory, manifest, store)
    for entry in manifest.entries:
        if entry.type == "l":
            os.symlink(entry.target, _with_parent(directory, entry.path))
    for entry in reversed(directories):
        os.chmod(f"{directory}/{entry.path}", entry.mode)
    os.chmod(directory, 0o755)
    return linked


def _link_files(directory: str, manifest: Manifest, store: Store) -> int:
    linked, made = 0, ""
    for entry in manifest.files:
        parent = entry.path.rpartition("/")[0]
        if parent != made:
            _with_parent(directory, entry.path)
            made = parent
        linked += store.link(entry, f"{directory}/{entry.path}")
    return linked


def _with_parent(directory: str, path: str) -> str:
    """*path* below *directory*; parents that the manifest did not list are made, for everybody to read."""
    whole = f"{directory}/{path}"
    missing = []
    parent = os.path.dirname(whole)
    while not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for parent in reversed(missing):
        os.mkdir(parent)
        os.chmod(parent, 0o755)
    return whole
