"""
Points at which a part of the engine stops itself, so that a test can kill it right there.

The engine that is run is a copy of ours in which every write to state.db is such a point: nothing of this is in the shipped code.
A part that is armed stops (SIGSTOP) after its N-th write, or after the first one that holds a text, in the middle of a
transaction too, and says so in a file.
"""

from __future__ import annotations

import compileall
import os
import shutil
import signal
from pathlib import Path
from uuid import uuid4

from app import SOURCE, App, alive, state
from victims import kill

ROLES = ("runner", "keeper", "resume")

FAULTPOINT = '''
"""Stops this process where a test wants it (see tests/faults/points.py)."""

import os
import signal
import sys

STARTED_AS = os.getpid()
seen = {}


def role():
    return sys.argv[1] if os.getpid() == STARTED_AS else "runner"  # the agent forks it


def passed(path, sql):
    armed = f"{path.parent}/armed-{role()}"
    try:
        with open(armed) as file:
            token, _, what = file.read().partition(" ")
    except OSError:
        return
    seen[token] = seen.get(token, 0) + 1
    if what == str(seen[token]) or not what.isdigit() and what in sql:
        with open(armed + ".reaching", "w") as file:
            file.write(f"{os.getpid()} {sql}")
        os.rename(armed + ".reaching", armed + ".reached")
        os.unlink(armed)
        os.kill(os.getpid(), signal.SIGSTOP)
'''

WATCH = """

from deployer.host import faultpoint  # noqa: E402

_run = State._run


def _watched(self, sql, values=()):
    found = _run(self, sql, values)
    if not sql.startswith(("SELECT", "PRAGMA")):
        faultpoint.passed(self.path, sql + " " + " ".join(map(str, values))[:200])
    return found


State._run = _watched
"""


def instrumented(place: Path) -> Path:
    """A copy of our source below *place* whose writes to state.db are points."""
    copy = place / "instrumented"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    host = copy / "deployer" / "host"
    (host / "faultpoint.py").write_text(FAULTPOINT)
    with open(host / "state.py", "a") as file:
        file.write(WATCH)
    compileall.compile_dir(copy, quiet=2)  # commands write no compiled files: each would do it again
    return copy


class Point:
    """*role* of *app*'s engine is to stop after its *write*-th write from now on, or after the first one with that text."""

    def __init__(self, app: App, role: str, write: int | str) -> None:
        self._armed = app.host / ".deployer" / f"armed-{role}"
        self._reached = self._armed.with_name(f"{self._armed.name}.reached")
        self._reached.unlink(missing_ok=True)
        whole = self._armed.with_name("arming")
        whole.write_text(f"{uuid4().hex} {write}")
        whole.replace(self._armed)

    @property
    def reached(self) -> bool:
        # It says so a moment before it stops: a SIGCONT that came first would be lost.
        return self._reached.exists() and not self._armed.exists() and state(self.pid) == "T"

    @property
    def passed(self) -> bool:
        """Whether it stops, or is about to."""
        return self._reached.exists()

    @property
    def where(self) -> str:
        """What had been written last."""
        return self._reached.read_text().partition(" ")[2]

    @property
    def pid(self) -> int:
        return int(self._reached.read_text().split()[0])

    def kill(self) -> None:
        """Kill the one that has stopped."""
        if alive(self.pid):
            kill(self.pid, signal.SIGKILL)

    def go_on(self) -> None:
        """Let the one that has stopped go on."""
        os.kill(self.pid, signal.SIGCONT)

    def disarm(self) -> None:
        self._armed.unlink(missing_ok=True)
