"""
paramiko, imported as cheaply as it can be.

It tries to import `invoke`, for `Match exec` in ssh configs, which we read ourselves: a third of its time for nothing.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

_absent: Any = None
_unwanted = "invoke" not in sys.modules
if _unwanted:
    sys.modules["invoke"] = _absent
import paramiko  # noqa: E402
import paramiko.agent  # noqa: E402

if _unwanted:
    del sys.modules["invoke"]

# Its threads log what they raise as well; we tell it once, in our words.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False

__all__ = ["paramiko"]
