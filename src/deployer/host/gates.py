"""Run install and check: inside the new release, under a time limit, with their output kept and their whole group ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from deployer.durations import show
from deployer.errors import FailedError, GateError
from deployer.host import logs

KILL_AFTER = 5.0
"""Seconds between SIGTERM and SIGKILL for a gate that ran out of time."""
OLD_SERVES = "the running release was not touched"


def run(
    step: str,
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    timeout: float,
    output: Path,
    abort_fd: Optional[int] = None,
) -> float:
    """
    Seconds that *argv* took. Raises GateError with the end of its output when it fails or exceeds *timeout* seconds,
    FailedError when *abort_fd* becomes readable first.
    """
    output.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    started = time.monotonic()
    log = logs.open_output(output)
    try:
        process = _popen(step, argv, cwd, env, log)
    finally:
        os.close(log)
    code = _wait(process, started + timeout, abort_fd)
    took = time.monotonic() - started
    if code is None:
        _end(process)
        if time.monotonic() < started + timeout:
            raise FailedError(f"{step} was aborted", state=OLD_SERVES)
        raise GateError(
            f"{step} took longer than {show(timeout)} and was ended",
            cause=_tail(argv, output),
            state=OLD_SERVES,
            hint=f"make it faster, or raise {step}.timeout",
        )
    if code != 0:
        how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
        raise GateError(
            f"{step} {how}", cause=_tail(argv, output), state=OLD_SERVES, hint=f"fix [{step}] command, or the release"
        )
    return took


def _popen(step: str, argv: Sequence[str], cwd: Path, env: Mapping[str, str], log: int) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            list(argv), cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    except OSError as error:
        raise GateError(
            f"{step} could not be started",
            cause=f"{argv[0]}: {error.strerror}",
            state=OLD_SERVES,
            hint=f"correct [{step}] command",
        ) from error


def _wait(process: "subprocess.Popen[bytes]", deadline: float, abort_fd: Optional[int]) -> Optional[int]:
    handle = os.pidfd_open(process.pid)
    try:
        watched = [handle] if abort_fd is None else [handle, abort_fd]
        ready = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))[0]
    finally:
        os.close(handle)
    return process.wait() if handle in ready else None


def _end(process: "subprocess.Popen[bytes]") -> None:
    for signum in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signum)
        except (ProcessLookupError, PermissionError):
            pass
        if _wait(process, time.monotonic() + KILL_AFTER, None) is not None and signum == signal.SIGKILL:
            return


def _tail(argv: Sequence[str], output: Path) -> str:
    lines: List[str] = [" ".join(argv)] + [f"  {line}" for line in logs.tail(output, 20)]
    return "\n".join(lines)


def environment(env: Dict[str, str]) -> Dict[str, str]:
    """The app's own environment without the mark that would make a gate a part of the app's tree."""
    return {name: value for name, value in env.items() if name not in ("DEPLOYER_INSTANCE", "NOTIFY_SOCKET")}
