"""
A command of the user's that is run once, whoever of us dies meanwhile: a directory is the record of it.

Who makes the directory runs the command; who comes too late finds it made. Also `Question`, which may be asked any number of times.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple

from deployer.host.process import Processes
from deployer.model import Identity

BEGINS_WITHIN = 5.0
"""Seconds between the directory and the pid in it, on a machine that hardly moves."""
ANSWERS_WITHIN = 15.0
"""Seconds until a question counts as answered with no."""
NEVER, UNDER_WAY, ENDED = "never", "under way", "ended"
# Where the disk refuses the directory, the command is run all the same: a service that nobody asks to stop is killed in the end.
_ONCE = """
mkdir "$1" 2>/dev/null || [ ! -d "$1" ] || exit 0
record=$1
(read -r stat < /proc/$$/stat && set -- $stat && echo "$$ ${22}" > "$record/pid.new" && mv "$record/pid.new" "$record/pid")
cd "$2" || cd /
shift 2
"$@"
code=$?
echo $code > "$record/code.new" && mv "$record/code.new" "$record/code"
"""
_QUESTION = """
cd "$1" || cd /
answer=$2
shift 2
"$@" > "$answer" 2> /dev/null
echo $?
"""
_DEFAULTS = (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGXFSZ)


class Once:
    """What became of the command with its record in *place*."""

    def __init__(self, place: Path, processes: Processes) -> None:
        self._place = place
        self._processes = processes
        self._tried = False
        self._begun: Optional[Identity] = None

    def begin(self, argv: Sequence[str], cwd: str, env: Mapping[str, str], output: int) -> None:
        """Have *argv* run, its output to the descriptor *output*, unless it has been. Raises OSError where nothing starts."""
        if self.state() != NEVER:
            return
        try:
            self._place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            pass
        self._tried = True
        self._begun = self._processes.identity(_shell(_ONCE, [str(self._place), cwd, *argv], env, output))

    def state(self) -> str:
        """NEVER, UNDER_WAY, or ENDED: by itself or with whoever ran it."""
        if self._begun is not None and self._processes.alive(self._begun):
            return UNDER_WAY
        if not self._place.is_dir():
            return ENDED if self._tried else NEVER
        if self.code is not None:
            return ENDED
        runs = self._runs()
        if runs is None:
            return UNDER_WAY if self.age() < BEGINS_WITHIN and not self._tried else ENDED
        return UNDER_WAY if self._processes.alive(runs) else ENDED

    @property
    def code(self) -> Optional[int]:
        """Its exit code; None before the end, and where nobody was there to see it."""
        return _number(self._place / "code")

    def age(self) -> float:
        """Seconds since it was begun; 0 while its record is not there yet."""
        found = _age(self._place)
        return 0.0 if found == float("inf") else found

    def end(self) -> None:
        """Kill the command, and what it has started in its process group."""
        runs = self._begun or self._runs()
        if runs is not None and self._processes.alive(runs):
            _kill_group(runs.pid)

    def _runs(self) -> Optional[Identity]:
        try:
            pid, start = (self._place / "pid").read_text("ascii").split()
            return Identity(int(pid), int(start), self._processes.boot)
        except (OSError, ValueError):
            return None


class Question:
    """A command that is asked for its exit code and the first line that it prints, without waiting for it."""

    def __init__(self, argv: Sequence[str], cwd: str, env: Mapping[str, str], answer: Path) -> None:
        self._answer = answer
        self.asked_at = time.monotonic()
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            answer.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._pid = _shell(_QUESTION, [cwd, str(answer), *argv], env, writer)
        except OSError:
            self._pid = 0
        finally:
            os.close(writer)

    def answered(self) -> Optional[Tuple[int, str]]:
        """The exit code and what was printed; None for now. One that takes too long is ended."""
        if self._reader < 0:
            return self._said
        try:
            data = os.read(self._reader, 64)
        except BlockingIOError:
            if time.monotonic() - self.asked_at < ANSWERS_WITHIN:
                return None
            _kill_group(self._pid)
            data = b""
        os.close(self._reader)
        self._reader = -1
        try:
            text = self._answer.read_text("utf-8", "replace")[:200].strip()
        except OSError:
            text = ""
        self._said = (int(data), text) if data.strip().isdigit() else (-1, text)
        return self._said

    _said: Optional[Tuple[int, str]] = None


def _shell(script: str, args: List[str], env: Mapping[str, str], output: int) -> int:
    """The pid of a shell that leads a session of its own."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), *((os.POSIX_SPAWN_DUP2, output, fd) for fd in (1, 2))]
        argv = ["/bin/sh", "-c", script, "deployer", *args]
        return os.posix_spawn(
            argv[0], argv, dict(env), file_actions=actions, setsid=True, setsigdef=_DEFAULTS, setsigmask=[]
        )
    finally:
        os.close(null)


def _kill_group(pid: int) -> None:
    try:
        if pid > 1:
            os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _number(path: Path) -> Optional[int]:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _age(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return float("inf")


def forget(directory: Path, keep: Sequence[str], older_than: float) -> None:
    """Remove the records in *directory* that nobody has needed for *older_than* seconds, but for those named in *keep*."""
    try:
        found = [path for path in directory.iterdir() if path.name not in keep and _age(path) > older_than]
    except OSError:
        return
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
