"""
What an archive would unpack to, checked as a whole before any of it gets a name on a disk.

An archive's members can only be judged together: `l2 -> sub/l1/..` is harmless until `sub/l1 -> ..` comes along. So
they are collected here, later ones replacing earlier ones as unpacking would, and every link is walked through the
tree of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from deployer.manifest import Entry, check_path

DEEPEST = 40  # links followed in one path, as in the kernel
_DRIVE = re.compile(r"[A-Za-z]:")


class Refused(Exception):
    """A member that is not unpacked, and why."""

    def __init__(self, member: str, why: str) -> None:
        super().__init__(f"{member!r}: {why}")
        self.member = member
        self.why = why


@dataclass(frozen=True)
class Piece:
    """Where a file's bytes lie in the spool."""

    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Node:
    type: str
    mode: int
    target: str = ""
    piece: Piece | None = None


class Tree:
    """The members of one archive by path. Nothing leaves it: `entries` raises Refused for what would lead outside."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def add(self, name: str, node: Node) -> None:
        """The last member of a name counts, as with tar; one that turns a directory into a link is refused."""
        path = member_path(name)
        if not path:
            if node.type != "d":
                raise Refused(name, "stands for the root of the archive, but is not a directory")
            return
        before = self.nodes.get(path)
        if before is not None and before.type != node.type:
            raise Refused(name, "comes twice, as different kinds of file")
        self.nodes[path] = node

    def hard_link(self, name: str, target: str) -> None:
        """A hard link is a copy of the earlier member that it names."""
        node = self.nodes.get(member_path(target))
        if node is None or node.type == "d":
            raise Refused(name, f"is a hard link to {target!r}, which is no earlier file of the archive")
        self.add(name, node)

    def entries(self) -> Iterator[Entry]:
        """Every member as an entry, with the parents that the archive left out."""
        for path in list(self.nodes):
            self._make_parents(path)
        for path, node in self.nodes.items():
            if node.type == "l":
                self._check_link(path, node.target)
            size, sha256 = (node.piece.size, node.piece.sha256) if node.piece else (0, "")
            yield Entry(path, node.type, node.mode, size, sha256, node.target)

    def _make_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        while parent:
            if self.nodes.setdefault(parent, Node("d", 0o755)).type != "d":
                raise Refused(path, f"passes through {parent!r}, which is not a directory")
            parent = parent.rpartition("/")[0]

    def _check_link(self, path: str, target: str) -> None:
        """Walk *target* as the kernel would, through the links of this tree, and refuse the step that leaves it."""
        here = path.split("/")[:-1]
        ahead = _steps(path, target)
        followed = 0
        while ahead:
            step = ahead.pop()
            if step != "..":
                here.append(step)
            elif here:
                here.pop()
            else:
                raise Refused(path, f"is a link out of the archive: {target!r}")
            node = self.nodes.get("/".join(here))
            if node is not None and node.type == "l":
                followed += 1
                if followed > DEEPEST:
                    raise Refused(path, f"is a link that never ends: {target!r}")
                here.pop()
                ahead += _steps(path, node.target)


def member_path(name: str) -> str:
    """
    The path that a member's *name* stands for: "./a//b/" is "a/b", the root is "".

    Raises Refused for a name that means another place on some system, or none.
    """
    if name.startswith("/"):
        raise Refused(name, "is absolute")
    if "\\" in name or _DRIVE.match(name):
        raise Refused(name, "has a backslash or a drive letter, which other systems take for a path")
    path = "/".join(part for part in name.split("/") if part not in ("", "."))
    try:
        if path:
            check_path(path)
    except ValueError as error:
        raise Refused(name, f"has a name that no file can have: {error}") from None
    return path


def _steps(path: str, target: str) -> list[str]:
    """The components of *target*, the next one last."""
    if not target or target.startswith("/"):
        raise Refused(path, f"is a link out of the archive: {target!r}")
    return [part for part in reversed(target.split("/")) if part not in ("", ".")]
