"""A long list in JSON, piece by piece."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

TOGETHER = 50
"""Nodes in one piece."""


def listed(documents: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """A JSON list, piece by piece: ten thousand nodes at once would keep everybody waiting for a quarter of a second."""
    first = True
    while some := list(itertools.islice(documents, TOGETHER)):
        text = json.dumps(some, separators=(",", ":"))[1:-1]
        yield (("[" if first else ",") + text).encode()
        first = False
    yield b"[]" if first else b"]"
