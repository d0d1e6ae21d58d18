"""A directory with a deploy.toml and an artifact, deployed to a path beside it; stopped for good at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.processes import PATIENCE, Run, deployer, run, wait_exit


@dataclass(frozen=True)
class Project:
    """One app. `dist` is its artifact."""

    root: Path

    @property
    def dist(self) -> Path:
        return self.root / "dist"

    @property
    def host(self) -> Path:
        return self.root / "host"

    def write(self, command: Sequence[str], env: dict[str, str] | None = None, health: str = "") -> None:
        """Write deploy.toml; *health* holds the lines of [health]."""
        self.dist.mkdir(parents=True, exist_ok=True)
        variables = ", ".join(f"{name} = {json.dumps(value)}" for name, value in (env or {}).items())
        (self.root / "deploy.toml").write_text(
            f'app = "bench"\n[build]\nartifact = "dist"\n'
            f"[run]\ncommand = {json.dumps(list(command))}\nenv = {{ {variables} }}\n"
            f"[health]\n{health}\n[target.local]\npath = {json.dumps(str(self.host))}\n"
        )

    def release(self, name: str) -> None:
        """Make the artifact another one."""
        (self.dist / "release.txt").write_text(name)

    def deployer(self, *arguments: str) -> Run:
        return run([*deployer(), *arguments], cwd=self.root)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`deployer ARGUMENTS`, under way."""
        return subprocess.Popen(
            [*deployer(), *arguments], cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.deployer("status", "--json").out)["hosts"][0]["facts"]
        return found


@contextmanager
def project(root: Path) -> Iterator[Project]:
    """A project in *root*; afterwards its app has been stopped, and its keeper has ended."""
    made = Project(root)
    try:
        yield made
    finally:
        if made.host.exists():
            _stop(made)


def _stop(made: Project) -> None:
    # In a session of its own: a Ctrl-C that ended the measuring must not end the cleaning up.
    for arguments in (["stop", "--ceiling", "2s", "--wait-lock", "20s"], ["status", "--json"]):
        done = subprocess.run(
            [*deployer(), *arguments], cwd=made.root, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE,
            start_new_session=True, check=False,
        )  # fmt: skip
    keeper = json.loads(done.stdout)["hosts"][0]["facts"]["keeper"]
    if keeper:
        os.kill(keeper["pid"], signal.SIGTERM)
        wait_exit(keeper["pid"])


def events(out: str) -> dict[str, dict[str, Any]]:
    """The events of a command under --json, by name; `at` is when (seconds since the epoch)."""
    found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {event["event"]: {**event, "at": datetime.fromisoformat(event["time"]).timestamp()} for event in found}
