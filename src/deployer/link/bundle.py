"""The engine as it travels to a host that lacks it: read and packed once, about 140 kB."""

from __future__ import annotations

import json
import threading
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import deployer
from deployer.wire import source

_once = threading.Lock()


@dataclass(frozen=True)
class Bundle:
    """`digest` names exactly this engine; `loader` is the program that brings it up on a host."""

    digest: str
    loader: bytes
    files: dict[str, bytes]

    @cached_property
    def _squeezed(self) -> bytes:
        # zlib: bz2 would save 40 kB, and is missing from some Pythons. Comments would be another 40, and cost 300 ms to strip.
        return zlib.compress(json.dumps({name: text.decode() for name, text in self.files.items()}).encode(), 6)

    def packed(self) -> bytes:
        """What `host/loader.py` unpacks."""
        with _once:  # fifty hosts ask at once
            return self._squeezed


_bundles: list[Bundle] = []


def bundle() -> Bundle:
    """The engine of this client."""
    with _once:
        if not _bundles:
            files = source.collect(Path(deployer.__file__).parent)
            _bundles.append(Bundle(source.digest(files), files["deployer/host/loader.py"], files))
        return _bundles[0]
