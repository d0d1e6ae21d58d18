"""The engine as files: which they are, and the one name that stands for exactly these."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Dict, Iterator, Mapping

PARTS = ("__init__.py", "errors.py", "durations.py", "manifest.py", "model.py", "wire", "host", "jobs")
"""Of the package: all that runs on a host, standard library only."""


def collect(package: Path) -> Dict[str, bytes]:
    """The engine's files below *package* by name: "deployer/host/agent.py"."""
    return {f"deployer/{path.relative_to(package).as_posix()}": path.read_bytes() for path in _files(package)}


def digest(files: Mapping[str, bytes]) -> str:
    """A name for exactly *files*. `host/loader.py` counts in the same way."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(name.encode() + b"\0" + files[name] + b"\0")
    return whole.hexdigest()[:16]


def _files(package: Path) -> Iterator[Path]:
    for part in PARTS:
        path = package / part
        if path.is_file():
            yield path
        else:
            yield from path.rglob("*.py")
