"""Files for the tests of the store and the releases: content in, manifest and filled store out."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployer.host.store import Store
from deployer.manifest import Entry, Manifest, key


def file(path: str, content: bytes = b"x", mode: int = 0o644) -> Entry:
    return Entry(path, "f", mode, len(content), hashlib.sha256(content).hexdigest())


def fill(store: Store, contents: Mapping[str, bytes], mode: int = 0o644) -> Manifest:
    """A manifest of *contents*, all of it in *store*: what was missing has been received."""
    manifest = Manifest(file(path, content, mode) for path, content in contents.items())
    for entry in store.missing(manifest):
        store.receive(key(entry), entry.size, [contents[entry.path]])
    return manifest


@contextmanager
def small_disk(path: Path, options: str = "size=1m") -> Iterator[Path]:
    """A file system of 1 MiB at *path*; skips where one cannot be mounted."""
    path.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
