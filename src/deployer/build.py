"""The build: one command on the machine of whoever pushes, which leaves nothing running behind when it fails."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shlex import join
from typing import IO

from deployer import durations
from deployer.errors import GateError
from deployer.interrupts import uninterrupted

TAIL = 20  # lines that an error quotes
LONGEST_LINE = 4096  # bytes; a line without an end (a progress bar, a binary) is cut here
STATE = "nothing was changed on any host"


def run_build(command: Sequence[str], directory: Path, timeout: float, on_line: Callable[[str], None]) -> float:
    """
    Run *command* in *directory*, hand each line of its output to *on_line*, and return the seconds that it took.

    It has a session of its own, which is ended whole (SIGTERM, then SIGKILL) when *timeout* seconds pass, when it
    fails, and when anything else is raised, Ctrl-C included. Raises GateError with the exit code and the last lines.
    """
    began = time.monotonic()
    tail: deque[str] = deque(maxlen=TAIL)
    process: subprocess.Popen[bytes] | None = None
    try:
        with uninterrupted():  # between the fork and our knowing of it, Ctrl-C would leave the build behind
            process = _start(command, directory)
        for line in _lines(process, began + timeout):
            tail.append(line)
            on_line(line)
        code = process.wait(max(0.0, began + timeout - time.monotonic()))
        if code:
            raise _failed(f"the build failed: {_ending(code)}", command, tail, "fix the build and push again")
    except subprocess.TimeoutExpired:
        assert process is not None
        _end_group(process)
        title = f"the build did not finish within {durations.show(timeout)}"
        raise _failed(title, command, tail, "make it faster, or raise build.timeout") from None
    except BaseException:
        if process is not None:
            _end_group(process)
        raise
    finally:
        if process is not None:
            _pipe(process).close()
    return time.monotonic() - began


def _start(command: Sequence[str], directory: Path) -> subprocess.Popen[bytes]:
    """
    A session, not only a group: a tool that asks on /dev/tty then fails at once instead of being stopped by SIGTTIN.
    """
    try:
        return subprocess.Popen(
            list(command),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError, IndexError) as error:
        title = f"the build could not be started: {join(command)}"
        raise GateError(title, cause=str(error), state=STATE, hint="look at build.command in deploy.toml") from error


def _lines(process: subprocess.Popen[bytes], deadline: float) -> Iterator[str]:
    """The output, line by line. Raises TimeoutExpired at *deadline* (monotonic seconds)."""
    rest = b""
    for chunk in _chunks(process, deadline):
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            yield from _cut(line)
        while len(rest) > LONGEST_LINE:
            yield _text(rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
    if rest:
        yield from _cut(rest)


def _chunks(process: subprocess.Popen[bytes], deadline: float) -> Iterator[bytes]:
    """
    What the pipe gives, until it ends or the command has exited: a daemon that it left behind may hold the pipe for
    ever.
    """
    pipe = _pipe(process).fileno()
    ready = select.poll()
    ready.register(pipe, select.POLLIN)
    exited = False
    while True:
        if not exited and process.poll() is not None:
            exited, deadline = True, min(deadline, time.monotonic() + 0.2)  # what it wrote is in the pipe already
        left = deadline - time.monotonic()
        if left <= 0 and not exited:
            raise subprocess.TimeoutExpired(process.args, left)
        if left > 0 and ready.poll(0 if exited else min(50.0, left * 1000)):
            if not (chunk := os.read(pipe, 65536)):
                return
            yield chunk
        elif exited:
            return


def _cut(line: bytes) -> Iterator[str]:
    for start in range(0, max(len(line), 1), LONGEST_LINE):
        yield _text(line[start : start + LONGEST_LINE])


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")


def _end_group(process: subprocess.Popen[bytes], grace: float = 5.0) -> None:
    """End the command and everything in its group; a second Ctrl-C while it waits means SIGKILL now."""
    deadline = time.monotonic() + grace
    try:
        _signal_group(process, signal.SIGTERM)
        while _signal_group(process, 0) and time.monotonic() < deadline:
            process.poll()
            time.sleep(0.02)
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Whether the group still had a member to signal."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
        return False
    return True


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _failed(title: str, command: Sequence[str], tail: Sequence[str], hint: str) -> GateError:
    said = "\n".join(tail) if tail else "(it printed nothing)"
    return GateError(title, cause=f"{join(command)}\n{said}", state=STATE, hint=hint)


def _pipe(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None  # we asked for a pipe
    return process.stdout
