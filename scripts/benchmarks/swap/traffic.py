"""The load on one service, as a process of its own (load.py): phases by name, then what became of every request."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import PATIENCE, progress
from benchmarks.swap.way import SLOW

PROGRAM = Path(__file__).parent.parent / "load.py"
KEPT = 16
"""Connections that are kept alive; every other request has one of its own."""
SLOW_RATE = 1.0
"""Slow requests per second: five are in flight at any time."""
TIMEOUT = 15.0
"""Seconds for an answer: more than a drain and a boot, so that who only waits is a stall and not a loss."""


class Traffic:
    """Constant until `stop`. The first phase is `start`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def mark(self, name: str) -> None:
        """From now on it is phase *name*."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"mark {name}\n")
        self._process.stdin.flush()

    def stop(self) -> dict[str, Any]:
        """Send nothing more, wait for what is in flight; the figures."""
        self._process.terminate()
        out, _ = self._process.communicate(timeout=PATIENCE + TIMEOUT + SLOW)
        figures: dict[str, Any] = json.loads(out)
        return figures


@contextmanager
def traffic(url: str, rate: float) -> Iterator[Traffic]:
    """A load on *url* which has had its first answer; ended at the end."""
    options = {"rate": rate, "kept": KEPT, "slow-rate": SLOW_RATE, "slow-seconds": SLOW, "timeout": TIMEOUT}
    argv = [sys.executable, "-S", str(PROGRAM), url, "--mark"]
    argv += [word for name, value in options.items() for word in (f"--{name}", f"{value:g}")]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()  # the first answer, or the end of the process
        if "answers come" not in said:
            raise SystemExit(f"bench: the load on {url} ended: {said}{process.stderr.read()}")
        yield Traffic(process)
    finally:
        process.kill()
        process.wait()
        progress(f"swap: the load on {url} has ended")
