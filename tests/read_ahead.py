"""
A process of which a test has read a few lines already: on POSIX `communicate()` reads the pipe itself, and what `readline()` has
read ahead with those lines would be lost, a line or two on a busy machine. Here it reads as the test has read.
"""

from __future__ import annotations

import subprocess
import threading
from types import MethodType
from typing import Any


def whole(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """*process*, whose `communicate()` gives all that nobody has read yet."""
    if "_communicate" not in vars(process):
        process._communicate = MethodType(_communicate, process)  # type: ignore[attr-defined]
    return process


def _communicate(self: Any, given: Any, endtime: float | None, limit: float | None) -> list[str | None]:
    """As Python has it on Windows: a thread for each stream, to its end."""
    if not self._communication_started:
        self.read_to_the_end = [_begun(stream) for stream in (self.stdout, self.stderr)]
    if self.stdin:
        self._stdin_write(given)
    for _, thread in self.read_to_the_end:
        thread.join(self._remaining_time(endtime))
        if thread.is_alive():
            raise subprocess.TimeoutExpired(self.args, limit or 0)
    return [found[0] if found else None for found, _ in self.read_to_the_end]


def _begun(stream: Any) -> tuple[list[str], threading.Thread]:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(stream.read()) if stream else None, daemon=True)
    thread.start()
    return found, thread
