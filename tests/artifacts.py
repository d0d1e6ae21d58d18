"""Artifacts on the disk, with content that is the same in every run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployer.artifact import Artifact, open_artifact


@contextmanager
def opened(artifact: Path) -> Iterator[Artifact]:
    with open_artifact(artifact, ()) as found:
        yield found


def write(directory: Path, contents: dict[str, bytes]) -> Path:
    for name, data in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)
