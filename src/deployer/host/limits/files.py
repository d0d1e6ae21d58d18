"""The config files of other programs, looked into for one key: never executed, never believed to be well formed."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Optional

LARGEST = 256 * 1024
"""Bytes of a file that are read: a config is smaller."""


class Texts:
    """Files below *directory* (None: nobody knows where the program runs, and only absolute names can be read)."""

    def __init__(self, directory: Optional[str]) -> None:
        self._directory = directory
        self._read: Dict[str, str] = {}

    def values(self, name: str, key: str) -> List[str]:
        """
        What stands behind *key* at the beginning of a line of the file *name*, in whichever of the usual notations.

        `key = 1`, `key: 1`, `:key: 1`, `"key": 1`, `key 1`; a value that is computed is none.
        """
        pattern = rf"^[ \t]*[:\"']?{re.escape(key)}[\"']?[ \t]*[:=]?[ \t]*[\"']?([\w.]+(?:[ \t]*(?:ms|[smhd]))?)"
        return re.findall(pattern, self._text(name), re.MULTILINE)

    def value(self, name: str, key: str) -> Optional[str]:
        """The first of `values` that is not 0 or none."""
        return next((value for value in self.values(name, key) if value not in ("0", "None", "sync", "1")), None)

    def _text(self, name: str) -> str:
        if name not in self._read:
            self._read[name] = self._fetch(name)
        return self._read[name]

    def _fetch(self, name: str) -> str:
        if self._directory is None and not name.startswith("/"):
            return ""
        path = name if name.startswith("/") else f"{self._directory}/{name}"
        if not os.path.isfile(path):  # a pipe would never end
            return ""
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read(LARGEST)
        except OSError:
            return ""
