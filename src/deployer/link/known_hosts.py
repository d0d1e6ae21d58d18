"""known_hosts: which keys a host may show. Reads lines and judges keys; no network."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from deployer.link.ssh_words import matches


class Standing(Enum):
    """What is known of a key."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"
    AUTHORITY = "a certificate authority stands for it"


@dataclass(frozen=True)
class Entry:
    """One line."""

    marker: str
    names: str
    type: str
    key: str
    place: str

    def is_for(self, name: str) -> bool:
        if self.names.startswith("|1|"):
            return _hashed(self.names, name)
        return matches(self.names.lower().split(","), name)


def read(files: Iterable[Path]) -> list[Entry]:
    """The lines of *files*, in order; a file that is not there has none."""
    return [entry for file in files for entry in _lines(file)]


def _lines(file: Path) -> list[Entry]:
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return []
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) >= 3 and not words[0].startswith("#"):
            found.append(Entry(marker, words[0], words[1], words[2], f"{file}:{number}"))
    return found


def names(host: str, port: int, alias: str | None) -> list[str]:
    """What *host* may stand under, the name that a new line gets first."""
    if alias is not None:
        return [alias.lower()]
    host = host.lower()
    return [host] if port == 22 else [f"[{host}]:{port}", host]


def types(entries: Sequence[Entry], names: Sequence[str]) -> list[str]:
    """The key types that we know for one of *names*."""
    return list(dict.fromkeys(entry.type for entry in _plain(entries, names)))


def judge(entries: Sequence[Entry], names: Sequence[str], type: str, key: str) -> tuple[Standing, str | None]:
    """How *key* (base64) stands, and the place that says so."""
    for entry in entries:
        if entry.marker == "@revoked" and entry.key == key and any(map(entry.is_for, names)):
            return Standing.REVOKED, entry.place
    known = _plain(entries, names)
    if any((entry.type, entry.key) == (type, key) for entry in known):
        return Standing.KNOWN, None
    # A key that only stands under the name without the port may be another server's: it proves, but it does not refute.
    refuting = _plain(entries, names[:1])
    if refuting:
        # The server was asked for the types that we know first: one that shows another type cannot show those.
        same = [entry for entry in refuting if entry.type == type]
        return Standing.CHANGED, (same or refuting)[0].place
    for entry in entries:
        if entry.marker == "@cert-authority" and any(map(entry.is_for, names)):
            return Standing.AUTHORITY, entry.place
    return Standing.UNKNOWN, None


def add(file: Path, line: str) -> None:
    """Append *line*. Raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, ("\n" if torn else "").encode() + line.encode() + b"\n")
    finally:
        os.close(descriptor)


def fingerprint(key: str) -> str:
    """As ssh-keygen -l shows it."""
    digest = hashlib.sha256(base64.b64decode(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _plain(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    return [entry for entry in entries if not entry.marker and any(map(entry.is_for, names))]


def _hashed(text: str, name: str) -> bool:
    try:
        salt, digest = map(base64.b64decode, text.split("|")[2:4])
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
