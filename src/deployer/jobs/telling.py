"""Who is told what happens: the hook of the environment, and a terminal."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Callable, Dict, Optional, TextIO

Event = Dict[str, Any]
EVERY = 0.5
"""Seconds between two `job.progress`."""


class Teller:
    """Hands each event to *hook* and to the terminal, when there is one. Nothing that goes wrong there changes a job."""

    def __init__(self, job: str, hook: Optional[Callable[[Event], Any]], terminal: Optional[TextIO]) -> None:
        self._job = job
        self._hook = hook
        self._terminal = terminal
        self._hook_failed = False
        self._progress_at = float("-inf")

    def tell(self, event: str, **facts: Any) -> None:
        """`{"event", "time" (seconds since 1970), "job", …}`."""
        if self._hook is None:
            return
        try:
            self._hook({"event": event, "time": time.time(), "job": self._job, **facts})
        except Exception:
            if not self._hook_failed:
                logging.getLogger("deployer.jobs").warning(
                    "on_event raised at %s; the job goes on", event, exc_info=True
                )
            self._hook_failed = True

    def progress(self, items_in: int, items_out: int) -> None:
        """`job.progress`, twice a second at most."""
        now = time.monotonic()
        if now - self._progress_at >= EVERY:
            self._progress_at = now
            self.tell("job.progress", items_in=items_in, items_out=items_out)
            self.show(f"\r{self._job}  {items_in} in, {items_out} out\x1b[K")

    def show(self, text: str) -> None:
        if self._terminal is None:
            return
        try:
            self._terminal.write(text)
            self._terminal.flush()
        except (OSError, ValueError):  # closed, or gone
            self._terminal = None


def terminal() -> Optional[TextIO]:
    """stderr where a person looks at it."""
    stream: Optional[TextIO] = sys.stderr
    try:
        return stream if stream is not None and stream.isatty() else None
    except ValueError:
        return None
