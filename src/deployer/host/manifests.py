"""What the manifests of the releases here tell about a new one: perhaps all of it, at least what did not change."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from deployer.host.releases import Releases
from deployer.manifest import Entry, Manifest
from deployer.wire import chunks

LOOKED_AT = 3
"""Releases whose manifests are read for what a new one shares with them: the current one, then the newest."""
_VERSION = re.compile(r"[0-9]+")


class Manifests:
    """The manifests of *releases*, the current one first, then the newest."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self._read: Dict[str, Optional[Manifest]] = {}

    def named(self, digest: str) -> Optional[Manifest]:
        """The manifest with that digest."""
        for release in self._ids:
            if self._releases.recorded_digest(release) == digest:
                found = self._releases.manifest(release)
                if found is not None and found.digest == digest:
                    return found
        return None

    def buckets(self, marks: Sequence[bytes]) -> Dict[bytes, Tuple[Entry, ...]]:
        """Those of the buckets with *marks* that are known here, as far as it pays to look: to ask for one costs little, too."""
        wanted = set(marks)
        found: Dict[bytes, Tuple[Entry, ...]] = {}
        for manifest in self._newest():
            before = len(found)
            for mark, bucket in zip(manifest.marks, manifest.buckets):  # noqa: B905 - Python 3.9
                if mark in wanted:
                    found.setdefault(mark, bucket)
            if len(found) in (before, len(wanted)):
                break
        return found

    def alike(self, entry: Entry) -> List[Entry]:
        """Other content that *entry* may share much with, the likeliest first: of its path, else of its name but for digits."""
        close = self._by_name.get(_VERSION.sub("", entry.path), [])
        return sorted(close, key=lambda one: (one.path != entry.path, abs(one.size - entry.size)))

    @cached_property
    def _by_name(self) -> Dict[str, List[Entry]]:
        found: Dict[str, List[Entry]] = {}
        for manifest in self._newest():
            for entry in manifest.files:
                if entry.size >= chunks.FROM:
                    found.setdefault(_VERSION.sub("", entry.path), []).append(entry)
        return found

    @cached_property
    def _ids(self) -> List[str]:
        newest, current = self._releases.listing()[::-1], self._releases.current()
        return sorted(newest, key=lambda release: release != current)

    def _newest(self) -> Iterator[Manifest]:
        for release in self._ids[:LOOKED_AT]:
            if release not in self._read:
                self._read[release] = self._releases.manifest(release)
            manifest = self._read[release]
            if manifest is not None:
                yield manifest
