"""Processes under measurement: run one and time it, ask a service, wait for an exit without polling."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds after which a measurement that does not come to an end is given up."""


def deployer() -> list[str]:
    """The `deployer` command of this Python."""
    installed = Path(sys.executable).with_name("deployer")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "deployer"]


@dataclass(frozen=True)
class Run:
    """One process from its start to its end: wall clock and CPU (its own and of what it waited for) in ms."""

    wall: float
    cpu: float
    started_at: float
    ended_at: float
    out: str


def run(command: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Run:
    """Run *command* to its end; SystemExit with its output when it fails."""
    wall, started = time.time(), time.monotonic()
    process = subprocess.Popen(
        list(map(str, command)), cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    took = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"bench: `{' '.join(map(str, command))}` exited with {process.returncode}:\n{out}")
    return Run(took * 1000, (usage.ru_utime + usage.ru_stime) * 1000, wall, wall + took, out)


def wait_exit(pid: int) -> float:
    """The moment (monotonic seconds) at which process *pid* exits."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return time.monotonic()
    try:
        if not select.select([handle], [], [], PATIENCE)[0]:
            raise SystemExit(f"bench: waited {PATIENCE:g} s for the exit of process {pid}")
        return time.monotonic()
    finally:
        os.close(handle)


def answers(port: int) -> int | None:
    """The status that GET /health gets on *port*, or None when nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return int(connection.recv(4096).split()[1])
    except (OSError, ValueError, IndexError):
        return None


def wait_until(condition: Callable[[], object], what: str, every: float = 0.002) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: waited {PATIENCE:g} s until {what}")
        time.sleep(every)


def end(process: subprocess.Popen[bytes]) -> None:
    """End *process*: asked first, then by force."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def progress(text: str) -> None:
    print(f"bench  {text}", file=sys.stderr, flush=True)
