"""PM2: `reload` in cluster mode, with a daemon and a PM2_HOME of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import PATIENCE, free_port, progress, wait_until
from benchmarks.swap import tools
from benchmarks.swap.way import Settings, Told, alive, await_gone, copy_app, serves, settings

HANDLED = {"kill_timeout": 8000, "wait_ready": True, "listen_timeout": 5000}
"""What PM2's page on graceful shutdown asks for, the times as long as this app needs them."""
HANDLERS: dict[str, Settings] = {
    "none": {},
    # On SIGINT: server.close(), then exit, as PM2's documentation has it.
    "documented": {"STOP_SIGNAL": "SIGINT", "LAME_DUCK": "0"},
    "lame duck": {"STOP_SIGNAL": "SIGINT"},
}


class Pm2:
    """Two instances in cluster mode. *handler* is what the app does with PM2's SIGINT."""

    def __init__(self, root: Path, handler: str) -> None:
        self._pm2, self._root, self._handler, self._port = tools.pm2(), root, handler, free_port()
        self._program = copy_app("node", root / "app")
        self.url = f"http://127.0.0.1:{self._port}"

    def begin(self, release: str) -> None:
        self._write(release, {})
        self._run("start", "ecosystem.json")
        wait_until(serves(self.url, release), "PM2's app answers")

    def replace(self, release: str, more: Settings) -> Told:
        began, old = time.monotonic(), self._pids()
        self._write(release, more)
        code = self._run("reload", "ecosystem.json", "--update-env", check=False)
        if not more and not await_gone(old):
            raise SystemExit(f"bench: PM2 left {old} of the old release")
        return Told(time.monotonic() - began, code)

    def close(self) -> None:
        """Daemon and apps have ended; by their pids where PM2 left them."""
        left = self._pids() | self._daemon()
        self._run("kill", check=False)
        if not await_gone(left, 10):
            progress(f"swap: `pm2 kill` left {sorted(filter(alive, left))}")
            for pid in filter(alive, left):
                os.kill(pid, signal.SIGKILL)

    def _write(self, release: str, more: Settings) -> None:
        env = settings(release, PORT=str(self._port), **HANDLERS[self._handler]) | more
        app = {
            "name": "bench", "script": str(self._root / "app" / self._program), "cwd": str(self._root / "app"),
            "exec_mode": "cluster", "instances": 2, "env": env, **(HANDLED if self._handler != "none" else {}),
        }  # fmt: skip
        (self._root / "ecosystem.json").write_text(json.dumps({"apps": [app]}))

    def _run(self, *words: str, check: bool = True) -> int:
        done = subprocess.run(
            [*self._pm2, *words], cwd=self._root, env=self._environment(), stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3 * PATIENCE, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise SystemExit(f"bench: `pm2 {' '.join(words)}` exited with {done.returncode}:\n{done.stdout}")
        return done.returncode

    def _pids(self) -> set[int]:
        files = (self._root / "pm2-home" / "pids").glob("bench-*.pid")
        found = [file.read_text().strip() for file in files]
        return {int(pid) for pid in found if pid and alive(int(pid))}

    def _daemon(self) -> set[int]:
        file = self._root / "pm2-home" / "pm2.pid"
        return {int(file.read_text())} if file.exists() else set()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PM2_")}
        return {**kept, "PM2_HOME": str(self._root / "pm2-home"), "PM2_DISCRETE_MODE": "true"}


@contextmanager
def pm2(root: Path, handler: str) -> Iterator[Pm2]:
    root.mkdir(parents=True)
    way = Pm2(root, handler)
    try:
        yield way
    finally:
        way.close()
