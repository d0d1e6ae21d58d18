"""A program under test: real Python, real signals. Its stdout and stderr are files, so that nobody must read along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import wait_until

SOURCE = Path(__file__).parents[2] / "src"
HERE = Path(__file__).parent
PYENV = Path("/root/.pyenv/versions")

PRELUDE = """
import asyncio, os, signal, sys, threading, time
from deployer.lifecycle import Lifecycle, ShuttingDown
from told_node import Node, child, say
"""


class Program:
    """One run of *body*. `says` waits for a line, `ends` for the exit code."""

    def __init__(self, root: Path, body: str, python: str = sys.executable, **env: str) -> None:
        self.root = root
        (root / "program.py").write_text(PRELUDE + textwrap.dedent(body))
        environment = {**os.environ, "PYTHONPATH": f"{SOURCE}:{HERE}", **env}
        for gone in {"NOTIFY_SOCKET", "STATE_DIRECTORY", "DEPLOYER_REHEARSAL"} - set(env):
            environment.pop(gone, None)
        with open(root / "out", "wb") as out, open(root / "err", "wb") as err:
            self.process = subprocess.Popen(
                [python, str(root / "program.py")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                cwd=root,
            )

    @property
    def out(self) -> str:
        return (self.root / "out").read_text()

    @property
    def err(self) -> str:
        return (self.root / "err").read_text()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def says(self, text: str, within: float = 30) -> None:
        wait_until(lambda: text in self.lines or self._gone(text), within, f"{text!r} in {self.lines}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self, within: float = 30) -> int:
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {within} s\n{self.out}\n{self.err}") from None

    def ends_after(self, number: int, within: float = 30) -> tuple[int, float]:
        """Signal it; (exit code, seconds until it had exited)."""
        began = time.monotonic()
        self.signal(number)
        return self.ends(within), time.monotonic() - began

    def _gone(self, text: str) -> bool:
        assert self.process.poll() is None or text in self.lines, (
            f"ended without saying {text!r}\n{self.out}\n{self.err}"
        )
        return False


Start = Callable[..., Program]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Start]:
    """Start a program; whatever is left of it is killed in the end."""
    started: list[Program] = []

    def start(body: str, **more: Any) -> Program:
        root = tmp_path / f"run{len(started)}"
        root.mkdir()
        started.append(Program(root, body, **more))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGKILL)
            each.process.wait()


def other_pythons() -> list[Any]:
    """The oldest and the newest Python that we promise, where pyenv has them."""
    found = {version: sorted(PYENV.glob(f"{version}.*/bin/python")) for version in ("3.9", "3.13")}
    return [
        pytest.param(
            str(paths[-1]) if paths else "", id=version, marks=[] if paths else pytest.mark.skip(f"no Python {version}")
        )
        for version, paths in found.items()
    ]
