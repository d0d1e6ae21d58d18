"""deployer itself: overlap on an inherited socket or behind a proxy, and restart with a held socket."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import PATIENCE, deployer, free_port
from benchmarks.project import Project, project
from benchmarks.swap.proxies import Proxy
from benchmarks.swap.traffic import TIMEOUT
from benchmarks.swap.way import BOOT, READY_WITHIN, Settings, Told, copy_app

PORTS = 3
"""Behind a proxy: as many generations may drain at once, less one."""
CONFIG = """\
app = "bench"
strategy = "{strategy}"
[build]
artifact = "dist"
[run]
command = {command}
env = {{ {env} }}
{listens}
[health]
url = "http://127.0.0.1:{{port}}/health"
ready_within = "{ready_within:g}s"
[target.local]
path = {path}
[target.local.verify]
url = "{url}/"
timeout = "{patience:g}s"
{more}
"""


class Push:
    """`deployer push --json` under way."""

    def __init__(self, root: Path) -> None:
        self._began = self._ended = time.monotonic()
        self._events: list[dict[str, Any]] = []
        self._retires = threading.Event()
        self._process = subprocess.Popen(
            [*deployer(), "push", "--json"], cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def await_retire(self) -> None:
        """Until the old release has been asked to stop, or the push has ended."""
        if not self._retires.wait(2 * PATIENCE):
            raise SystemExit(f"bench: a push took more than {2 * PATIENCE:g} s to switch: {self._events[-3:]}")

    def told(self) -> Told:
        """How it ended."""
        self._reader.join(2 * PATIENCE)
        code = self._process.wait(PATIENCE)
        assert self._process.stderr is not None
        said = self._process.stderr.read()
        if code:
            print(said, file=sys.stderr)
        witness = next((event["witness"] for event in self._events if "witness" in event), None)
        return Told(self._ended - self._began, code, witness)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.append(json.loads(line))
            if self._events[-1]["event"] == "drain.started":
                self._retires.set()
        self._ended = time.monotonic()
        self._retires.set()


class Deployer:
    """A project whose artifact is the app. *listens* are lines of [run], *more* of the target."""

    def __init__(self, made: Project, url: str, language: str, strategy: str, listens: str, more: str = "") -> None:
        self.url, self.root = url, made.root
        self._made, self._strategy, self._listens, self._more = made, strategy, listens, more
        program = copy_app(language, made.dist)
        self._command = [sys.executable, "-S", program] if language == "python" else ["node", program]
        # With restart the linger may be part of the gap; with none at all, a request on a kept connection may meet a closed door.
        self._env = {"BOOT": str(BOOT), **({"LINGER": "0.3"} if strategy == "restart" else {})}

    def begin(self, release: str) -> None:
        told = self.replace(release, {})
        if told.exit_code:
            raise SystemExit(f"bench: the first push exited with {told.exit_code}")

    def replace(self, release: str, more: Settings) -> Told:
        return self.push(release, more).told()

    def push(self, release: str, more: Settings | None = None) -> Push:
        """A push of *release*, under way."""
        self._write(more or {})
        self._made.release(release)
        return Push(self.root)

    def _write(self, more: Settings) -> None:
        env = ", ".join(f"{name} = {json.dumps(value)}" for name, value in {**self._env, **more}.items())
        text = CONFIG.format(
            strategy=self._strategy, command=json.dumps(self._command), env=env, listens=self._listens,
            ready_within=READY_WITHIN if more else 60, path=json.dumps(str(self._made.host)), url=self.url,
            patience=TIMEOUT, more=self._more,
        )  # fmt: skip
        (self.root / "deploy.toml").write_text(text)


@contextmanager
def on_a_socket(root: Path, language: str = "python", strategy: str = "overlap") -> Iterator[Deployer]:
    port = free_port()
    with project(root) as made:
        yield Deployer(made, f"http://127.0.0.1:{port}", language, strategy, f'socket = "127.0.0.1:{port}"')


@contextmanager
def behind(root: Path, proxy: Callable[[Path, list[int]], AbstractContextManager[Proxy]]) -> Iterator[Deployer]:
    ports = [free_port() for _ in range(PORTS)]
    with ExitStack() as stack:
        front = stack.enter_context(proxy(root / "proxy", ports))
        made = stack.enter_context(project(root / "app"))
        pool = f"[target.local.pool]\n{front.pool}"
        yield Deployer(made, front.url, "python", "overlap", f"ports = {ports}", pool)
