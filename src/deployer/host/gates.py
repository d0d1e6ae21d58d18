"""Run install and check: in the new release, under a time limit, their output kept, what they started ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, List, Mapping, Optional, Protocol, Sequence

from deployer.durations import show
from deployer.errors import GateError
from deployer.host import logs
from deployer.host.journal import Journal
from deployer.host.process import Processes
from deployer.host.tree import Tree
from deployer.model import Identity

KILL_AFTER = 5.0
"""Seconds between SIGTERM and SIGKILL for a gate that ran out of time."""
LOOK_AGAIN = 0.25
"""Seconds between two looks at a gate whose exit nobody tells."""
OLD_SERVES = "the running release was not touched"
LONGEST_LINE = 64 * 1024

Redact = Callable[[str], str]


class Interruption(Protocol):
    """May end a gate before its time: once `fileno` is readable, `heed` is called, and whatever it raises ends the gate."""

    def fileno(self) -> int: ...
    def heed(self) -> None: ...


@dataclass(frozen=True)
class Command:
    """What to run for *step*. `env` holds a DEPLOYER_INSTANCE of its own: by that mark all that it starts is found."""

    step: str
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    timeout: float
    output: Path


def run(command: Command, redact: Redact, processes: Processes, interruption: Optional[Interruption] = None) -> float:
    """
    Seconds that *command* took; its output is in `command.output`, without the secrets that *redact* knows.

    Raises GateError with the end of the output when it fails or exceeds its time, and what *interruption* raises: nothing
    that it started lives on then.
    """
    command.output.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    started = time.monotonic()
    process = _popen(command)
    tree = _tree(process, command, processes)
    output = _Output(command.output, redact)
    try:
        code = _wait(process, output, started + command.timeout, interruption, processes)
        if code != 0:
            end(tree)
            output.take_rest(process)
    except BaseException:
        end(tree)
        raise
    finally:
        output.close()
        tree.close()
        _bury(process)
    if code is None:
        raise _too_long(command)
    if code != 0:
        raise _failed(command, code)
    return time.monotonic() - started


def end(tree: Tree, within: float = KILL_AFTER) -> None:
    """SIGTERM to every process of *tree*, SIGKILL to what is left after *within* seconds."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + within
        for stat in tree.refresh():
            handle = tree.handle(stat.pid)
            if handle is not None:
                handle.send(signum)
        while tree.refresh() and time.monotonic() < deadline:
            for handle in tree.handles():
                handle.exited(max(0.0, deadline - time.monotonic()))


def end_left_behind(processes: Processes, mark: str) -> None:
    """As `end`, for what a gate with the DEPLOYER_INSTANCE *mark* has left of itself when its runner died."""
    tree = Tree(processes, Identity(0, 0, processes.boot), mark)
    end(tree)
    tree.close()


def end_all_left_behind(journal: Journal, processes: Processes, steps: Iterable[str]) -> None:
    """What an install, a check or a rehearsal had started works on in a release that is about to be removed: end it."""
    for step in steps:
        begun = journal.data(step, "instance")
        if begun:
            end_left_behind(processes, begun["instance"])


def _popen(command: Command) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            list(command.argv), cwd=command.cwd, env=dict(command.env), start_new_session=True, umask=0o022,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        raise GateError(
            f"{command.step} could not be started",
            cause=f"{error.filename or command.argv[0]}: {error.strerror}",
            state=OLD_SERVES,
            hint=f"correct [{command.step}] command",
        ) from error


def _tree(process: "subprocess.Popen[bytes]", command: Command, processes: Processes) -> Tree:
    stat = processes.stat(process.pid)
    identity = Identity(process.pid, stat.start if stat else 0, processes.boot)
    return Tree(processes, identity, command.env["DEPLOYER_INSTANCE"])


def _bury(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    process.stdout.close()
    process.poll()


def _wait(
    process: "subprocess.Popen[bytes]",
    output: "_Output",
    deadline: float,
    interruption: Optional[Interruption],
    processes: Processes,
) -> Optional[int]:
    """The exit code of *process*, whose output is taken meanwhile; None at *deadline*."""
    assert process.stdout is not None
    handle, pipe = processes.child(process.pid), process.stdout.fileno()
    tells = handle is not None and handle.tells
    wake = -1 if interruption is None else interruption.fileno()
    watched = [pipe] + ([handle.fileno()] if handle is not None and tells else []) + ([] if wake < 0 else [wake])
    try:
        while time.monotonic() < deadline:
            left = max(0.0, deadline - time.monotonic())
            ready = select.select(watched, [], [], left if tells else min(left, LOOK_AGAIN))[0]
            if pipe in ready and not output.take(pipe):
                watched.remove(pipe)
            if interruption is not None and wake in ready:
                interruption.heed()
            if process.poll() is not None:
                output.take_rest(process)
                return process.wait()
        return None
    finally:
        if handle is not None:
            handle.close()


class _Output:
    """Writes what a command prints to a file, line by line, so that no secret is ever cut in two and overlooked."""

    def __init__(self, path: Path, redact: Redact) -> None:
        self._fd = logs.open_output(path)
        self._redact = redact
        self._rest = b""

    def take(self, pipe: int) -> bool:
        """Read once; False when nothing more will come."""
        data = os.read(pipe, 65536)
        lines, newline, self._rest = (self._rest + data).rpartition(b"\n")
        self._write(lines + newline)
        if len(self._rest) > LONGEST_LINE:
            self._flush()
        return bool(data)

    def take_rest(self, process: "subprocess.Popen[bytes]") -> None:
        """What is in the pipe by now; a daemon that was left behind may hold it open for ever."""
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        while select.select([pipe], [], [], 0)[0] and self.take(pipe):
            pass

    def close(self) -> None:
        self._flush()
        os.close(self._fd)

    def _flush(self) -> None:
        rest, self._rest = self._rest, b""
        self._write(rest)

    def _write(self, data: bytes) -> None:
        if data:
            text = self._redact(data.decode("utf-8", "surrogateescape"))
            os.write(self._fd, text.encode("utf-8", "surrogateescape"))


def _too_long(command: Command) -> GateError:
    return GateError(
        f"{command.step} took longer than {show(command.timeout)} and was ended",
        cause=_tail(command),
        state=OLD_SERVES,
        hint=f"make it faster, or raise {command.step}.timeout",
    )


def _failed(command: Command, code: int) -> GateError:
    how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
    return GateError(
        f"{command.step} {how}",
        cause=_tail(command),
        state=OLD_SERVES,
        hint=f"fix [{command.step}] command, or the release",
    )


def _tail(command: Command) -> str:
    lines: List[str] = [" ".join(command.argv)] + [f"  {line}" for line in logs.tail(command.output, 20)]
    return "\n".join(lines)
