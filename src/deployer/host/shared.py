"""
Linked paths: what outlives a release (data, uploads, an env file) lies in shared/ and is linked into every release.

What a release ships at such a path is the seed of it, copied the first time only. What is in shared/ is never
overwritten.
"""

from __future__ import annotations

import os
import shutil
from typing import Sequence

from deployer.errors import GateError
from deployer.host.disk import STATE, disk_errors, remove_tree, sync_filesystem
from deployer.manifest import check_path


def link_shared(root: str, release: str, linked: Sequence[str]) -> None:
    """
    Make each path of *linked* in *release* a relative link into *root*/shared. Doing it again changes nothing.

    A path that is nowhere yet becomes a directory; with a file's name (a suffix, ".env", or a file that the release
    ships) a link that dangles until someone writes the file. A "/" at its end says directory. Raises GateError for a
    path through a link.
    """
    with disk_errors("link the shared paths", root):
        for path in linked:
            _link(root, release, path)


def _link(root: str, release: str, written: str) -> None:
    path = written[:-1] if written.endswith("/") else written
    try:
        check_path(path)
    except ValueError as error:
        raise GateError(
            "run.linked has a bad path", cause=str(error), state=STATE, hint="use a relative path"
        ) from error
    shipped, kept = f"{release}/{path}", f"{root}/shared/{path}"
    target = "../" * (path.count("/") + 2) + f"shared/{path}"
    if os.path.islink(shipped) and os.readlink(shipped) == target:
        return
    if os.path.islink(shipped):
        raise _leads_elsewhere(path, shipped)
    _make_parents(release, path)
    _make_parents(f"{root}/shared", path)
    if not os.path.lexists(kept):
        _seed(shipped, kept, file=not written.endswith("/") and _named_like_a_file(path))
    remove_tree(shipped)
    os.symlink(target, shipped)


def _seed(shipped: str, kept: str, file: bool) -> None:
    """
    A real copy, which has its name only when it is whole: the app will write to it, and a crash must not leave half
    of it.
    """
    temporary = f"{os.path.dirname(kept)}/.deployer-seed-{os.path.basename(kept)}"
    remove_tree(temporary)
    try:
        if os.path.isdir(shipped):
            shutil.copytree(shipped, temporary, symlinks=True)
        elif os.path.lexists(shipped):
            shutil.copy2(shipped, temporary)
        elif file:
            return
        else:
            os.mkdir(temporary)
            os.chmod(temporary, 0o755)
        sync_filesystem(os.path.dirname(kept))
        os.rename(temporary, kept)
    except shutil.Error as error:  # a list of (source, destination, why); the first says enough
        raise OSError(str(error.args[0][0][2])) from error
    finally:
        remove_tree(temporary)


def _make_parents(base: str, path: str) -> None:
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        parent = "/".join([base, *parts[:depth]])
        if os.path.islink(parent) or (os.path.lexists(parent) and not os.path.isdir(parent)):
            raise _leads_elsewhere(path, parent)
        if not os.path.lexists(parent):
            os.mkdir(parent)
            os.chmod(parent, 0o755)


def _leads_elsewhere(path: str, where: str) -> GateError:
    cause = f"{where} is a link or a file"
    return GateError(f"the linked path {path} leads elsewhere", cause=cause, state=STATE, hint="change run.linked")


def _named_like_a_file(path: str) -> bool:
    name = os.path.basename(path)
    return name == ".env" or os.path.splitext(name)[1] != ""
