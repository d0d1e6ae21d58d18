"""PM2 and gunicorn from the package indexes, each in a directory of its own below ~/.cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import progress
from benchmarks.swap.way import Missing

PM2 = "pm2@7"
GUNICORN = "gunicorn==27.*"
INSTALL_WITHIN = 180.0


def pm2() -> list[str]:
    """The command. Raises Missing."""
    home = _home(PM2)
    program = home / "node_modules" / "pm2" / "bin" / "pm2"
    if not program.exists():
        if not shutil.which("npm"):
            raise Missing("npm is not installed")
        home.mkdir(parents=True, exist_ok=True)
        _install(["npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "--loglevel=error", PM2])
    return ["node", str(program)]


def gunicorn() -> list[str]:
    """The command. Raises Missing."""
    home = _home(GUNICORN)
    program = home / "bin" / "gunicorn"
    if not program.exists():
        _install([sys.executable, "-m", "venv", "--clear", str(home)])
        _install([str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", GUNICORN])
    return [str(program)]


def _home(wanted: str) -> Path:
    """A directory for each version: another one that is wanted is another directory."""
    name = re.sub(r"[^a-z0-9]+", "-", wanted).strip("-")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deployer-bench" / name


def _install(command: Sequence[str]) -> None:
    progress(f"swap: {' '.join(command)}")
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=INSTALL_WITHIN, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Missing(f"`{' '.join(command)}` took more than {INSTALL_WITHIN:g} s") from None
    if done.returncode:
        raise Missing(f"`{' '.join(command)}` exited with {done.returncode}: {done.stdout.strip()[-300:]}")
