"""
What a release is made of: a manifest of its files, and the name that follows from it.

A manifest crosses the link in both directions, so `Manifest.from_json` trusts nothing that it reads: what it returns
can be laid out below an empty directory without ever leaving it.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Dict, Iterable, List, Mapping, Tuple

DEEPEST = 255  # components; walking and deleting a tree takes a stack frame for each
BUCKET = 16  # entries that are told apart together, on average
MARK = 4  # bytes; the digest of the whole decides in the end
RELEASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ODD_COMPONENT = re.compile(r"(?:^|/)(?:\.{0,2})(?:/|$)")
_FIELDS = {"path": str, "type": str, "mode": int, "size": int, "sha256": str, "target": str}
_KINDS = list(_FIELDS.values())


@dataclass(frozen=True)
class Entry:
    """One file ("f"), directory ("d") or symbolic link ("l"); *path* is relative, with "/", never through a link."""

    path: str
    type: str
    mode: int
    size: int = 0
    sha256: str = ""
    target: str = ""


@dataclass(frozen=True)
class Manifest:
    """The entries of a release, sorted by path. Equal content and modes give an equal `digest`, on every machine."""

    entries: Tuple[Entry, ...]

    def __init__(self, entries: Iterable[Entry]) -> None:
        object.__setattr__(self, "entries", tuple(sorted(entries, key=lambda entry: entry.path)))

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(canonical(self.to_json()).encode("ascii")).hexdigest()

    @cached_property
    def files(self) -> Tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.type == "f")

    @cached_property
    def blobs(self) -> Tuple[Entry, ...]:
        """One entry for each content and mode, in an order that both sides of a link count in."""
        return tuple({key(entry): entry for entry in self.files}.values())

    @cached_property
    def buckets(self) -> Tuple[Tuple[Entry, ...], ...]:
        """The entries in short runs, cut where a path's checksum says so: a change shows in its own run and no other."""
        runs: List[List[Entry]] = []
        for entry in self.entries:
            if not runs or zlib.crc32(entry.path.encode("utf-8", "surrogatepass")) % BUCKET == 0:
                runs.append([])
            runs[-1].append(entry)
        return tuple(map(tuple, runs))

    @cached_property
    def marks(self) -> Tuple[bytes, ...]:
        """A short hash of each bucket."""
        return tuple(hashlib.sha256(canonical(_rows(run)).encode("ascii")).digest()[:MARK] for run in self.buckets)

    @property
    def bytes_total(self) -> int:
        return sum(entry.size for entry in self.files)

    def to_json(self) -> List[Dict[str, Any]]:
        """What crosses the link; `Manifest(entries).to_json()` of a part of the entries is a part of it."""
        # Not vars(entry): the fields that travel are a promise to the other side.
        return _rows(self.entries)

    @staticmethod
    def from_json(data: object) -> Manifest:
        """
        The manifest that `to_json` described. Raises ValueError, naming the entry, for anything that could do harm.
        """
        if not isinstance(data, list):
            raise ValueError("a manifest is a list of entries")
        manifest = Manifest(_entry(item) for item in data)
        manifest.check()
        return manifest

    def check(self) -> None:
        """Raises ValueError when the entries contradict each other or one is not fit to be laid out."""
        types: Dict[str, str] = {}
        for entry in self.entries:
            if entry.path in types:
                raise ValueError(f"{entry.path!r} is listed twice")
            types[entry.path] = entry.type
        directories = {""}
        for entry in self.entries:
            _check_entry(entry)
            _check_parents(entry.path, types, directories)
        _check_sizes(self.files)


def key(entry: Entry) -> str:
    """
    The name of a file's blob in the store. The mode is part of it: a 0600 file never shares an inode with a 0644 one.
    """
    return blob_name(entry.sha256, entry.mode)


def blob_name(sha256: str, mode: int) -> str:
    """As `key`, for who has no entry."""
    return f"{sha256}-{mode & 0o777:03o}"


def check_path(path: str) -> None:
    """Raises ValueError unless *path* is relative, plain ("a/b", no "." or "..") and free of control characters."""
    if _CONTROL.search(path):
        raise ValueError(f"{path!r} has a control character in its name")
    if path.startswith("/"):
        raise ValueError(f"{path!r} is absolute")
    if _ODD_COMPONENT.search(path):
        raise ValueError(f'{path!r} has an empty, "." or ".." component')
    if path.count("/") >= DEEPEST:
        raise ValueError(f"{path[:100]!r}… is more than {DEEPEST} directories deep")
    _check_encoding(path)


def canonical(data: object) -> str:
    """
    The one JSON text of *data*: ASCII, sorted keys, no spaces. Names that are not UTF-8 survive as lone surrogates.
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def release_digest(manifest_digest: str, settings: Mapping[str, Any]) -> str:
    """
    Content and settings in one sha256. The app's name and the strategy say how to deploy, not what: left out.
    """
    carried = {name: value for name, value in settings.items() if name not in ("app", "strategy")}
    return hashlib.sha256(f"{manifest_digest}\n{canonical(carried)}".encode("ascii")).hexdigest()


def release_hash(manifest_digest: str, settings: Mapping[str, Any]) -> str:
    """The six hex digits of `release_digest` that stand in a release's id."""
    return release_digest(manifest_digest, settings)[:6]


def release_id(now: datetime, hash: str) -> str:
    """The id of a release made *now* (an aware datetime): "20261121T201500Z-9f3c1e"; ids sort by time."""
    return f"{now.astimezone(timezone.utc):%Y%m%dT%H%M%SZ}-{hash}"


def is_release_id(text: str) -> bool:
    """Whether *text* may name a directory in releases/."""
    return RELEASE_ID.fullmatch(text) is not None


def _rows(entries: Iterable[Entry]) -> List[Dict[str, Any]]:
    # Word by word, here and below: a push makes thousands of them on every host.
    return [
        {
            "path": entry.path,
            "type": entry.type,
            "mode": entry.mode,
            "size": entry.size,
            "sha256": entry.sha256,
            "target": entry.target,
        }
        for entry in entries
    ]


def _entry(item: object) -> Entry:
    if not isinstance(item, dict) or item.keys() != _FIELDS.keys():
        raise ValueError(f"an entry has the fields {', '.join(_FIELDS)}, not {item!r:.200}")
    if [type(item[name]) for name in _FIELDS] != _KINDS:  # bool is an int to isinstance
        wrong = next(name for name, kind in _FIELDS.items() if type(item[name]) is not kind)
        raise ValueError(f"{item['path']!r:.200}: {wrong} is not {_FIELDS[wrong].__name__}")
    return Entry(**item)


def _check_entry(entry: Entry) -> None:
    check_path(entry.path)
    if not 0 <= entry.mode <= 0o777:
        raise ValueError(f"{entry.path!r} has the mode {entry.mode:#o}, outside of 0777")
    if entry.type == "f":
        proper = entry.size >= 0 and _SHA256.fullmatch(entry.sha256) and not entry.target
    elif entry.type == "l":
        proper = not entry.size and not entry.sha256 and 0 < len(entry.target) < 4096 and "\0" not in entry.target
        _check_encoding(entry.target)
    else:
        proper = entry.type == "d" and not entry.size and not entry.sha256 and not entry.target
    if not proper:
        raise ValueError(f"{entry.path!r} is not a proper entry: {entry!r:.300}")


def _check_parents(path: str, types: Mapping[str, str], directories: set[str]) -> None:
    """A parent that is not listed is a directory of mode 0755; *directories* remembers those already seen."""
    parent = path.rpartition("/")[0]
    while parent not in directories:
        if types.get(parent, "d") != "d":
            raise ValueError(f"{path!r} passes through {parent!r}, which is not a directory")
        directories.add(parent)
        parent = parent.rpartition("/")[0]


def _check_sizes(files: Iterable[Entry]) -> None:
    sizes: Dict[str, int] = {}
    for entry in files:
        if sizes.setdefault(entry.sha256, entry.size) != entry.size:
            raise ValueError(f"{entry.path!r} has the hash of a file of another size")


def _check_encoding(name: str) -> None:
    """One spelling per name: b"\\xc3\\xa9" is "é", never two surrogates, or two entries would be one file."""
    if name.isascii():
        return
    try:
        again = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        again = None
    if again != name:
        raise ValueError(f"{name!r} is not a file name")
