"""A pipe to wake a loop up by."""

from __future__ import annotations

import os
from typing import Tuple


def waking() -> Tuple[int, int]:
    """A pipe whose ends never block, and which no child inherits (macOS has no pipe2)."""
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends
