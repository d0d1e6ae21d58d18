"""The engine as it travels to a host that lacks it: read once, a few tens of kB."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import deployer
from deployer.wire import source


@dataclass(frozen=True)
class Bundle:
    """`digest` names exactly this engine; `loader` is the program that brings it up on a host."""

    digest: str
    loader: bytes
    files: dict[str, bytes]

    def packed(self) -> bytes:
        """What `host/loader.py` unpacks."""
        return zlib.compress(json.dumps({name: text.decode() for name, text in self.files.items()}).encode(), 6)


@cache
def bundle() -> Bundle:
    """The engine of this client."""
    files = source.collect(Path(deployer.__file__).parent)
    return Bundle(source.digest(files), files["deployer/host/loader.py"], files)
