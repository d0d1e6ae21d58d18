"""The Python servers of the guides, in an environment of their own below the one that runs the tests: made once."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

from parts import missing

LOCK = Path(__file__).parent / "servers.lock"
PLACE = Path(sys.prefix) / "guide-servers"  # goes when scripts/bootstrap makes the environment anew
INSTALLED_WITHIN = 90.0
"""Seconds; it takes 5 to 15."""


def servers() -> Path:
    """The environment with what servers.lock names, made where it is missing or of another lock; skips where it cannot be had."""
    made_from = PLACE / "made-from"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    with PLACE.with_suffix(".lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)  # the tests run side by side, and each of them asks
        if not (made_from.exists() and made_from.read_text() == wanted):
            _run("-m", "venv", "--clear", "--without-pip", str(PLACE))
            pip = [
                "-m",
                "pip",
                "--python",
                str(PLACE),
                "--disable-pip-version-check",
                "--retries",
                "2",
                "--timeout",
                "20",
            ]
            _run(*pip, "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(LOCK))
            made_from.write_text(wanted)
    return PLACE


def _run(*args: str) -> None:
    try:
        done = subprocess.run(
            [sys.executable, *args], capture_output=True, text=True, timeout=INSTALLED_WITHIN, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        missing(f"the servers of the guides could not be installed within {INSTALLED_WITHIN:g} s")
    if done.returncode:
        missing(f"the servers of the guides could not be installed: {done.stderr.strip()[-500:]}")
