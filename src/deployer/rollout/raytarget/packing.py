"""A release as Ray takes it: one zip with the artifact's files, and a copy of deployer for those who carry it out there."""

from __future__ import annotations

import hashlib
import posixpath
import shutil
import stat
import zipfile
from pathlib import Path

import deployer
from deployer.artifact import CHUNK, STATE, Artifact
from deployer.errors import GateError
from deployer.manifest import Entry

_EPOCH = (2000, 1, 1, 0, 0, 0)  # a zip of the same files is the same zip: Ray knows its packages by their content


def pack(opened: Artifact, path: Path) -> int:
    """Write the files of *opened* to a zip at *path*; its size. Raises GateError for a link that leads nowhere in it."""
    files = {entry.path: entry for entry in opened.manifest.files}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as package:
        for entry in opened.manifest.entries:
            if entry.type == "d":
                package.writestr(_info(f"{entry.path}/", entry.mode | stat.S_IFDIR), b"")
            else:
                _add(package, entry.path, entry if entry.type == "f" else _behind(entry, files), opened)
    return path.stat().st_size


def _add(package: zipfile.ZipFile, name: str, entry: Entry, opened: Artifact) -> None:
    with (
        opened.open(entry) as source,
        package.open(_info(name, entry.mode | stat.S_IFREG), "w", force_zip64=True) as out,
    ):
        shutil.copyfileobj(source, out, CHUNK)


def _behind(link: Entry, files: dict[str, Entry]) -> Entry:
    """The file that *link* leads to: a package of Ray's has no links."""
    seen = posixpath.normpath(posixpath.join(posixpath.dirname(link.path), link.target))
    if seen not in files:
        raise GateError(
            f"{link.path!r} cannot be part of a release on Ray", state=STATE, hint="name it in build.exclude",
            cause=f"it is a link to {link.target!r}, which is no file of the artifact, and Ray's packages have no links",
        )  # fmt: skip
    return files[seen]


def _info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, mode << 16
    return info


def engine(directory: Path) -> tuple[Path, str]:
    """A copy of this deployer in *directory*, for nodes that do not have it, and the digest that tells it from others."""
    source = Path(deployer.__file__).parent
    copy = directory / "deployer"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    digest = hashlib.sha256()
    for file in sorted(copy.rglob("*.py")):
        digest.update(f"{file.relative_to(copy)}\n".encode() + file.read_bytes())
    return copy, digest.hexdigest()[:16]
