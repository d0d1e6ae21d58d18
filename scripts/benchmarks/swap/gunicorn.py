"""gunicorn: HUP to its master, which starts workers with the new code and lets the old ones finish."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import end, free_port, wait_until
from benchmarks.swap import tools
from benchmarks.swap.by_hand import GIVES_UP
from benchmarks.swap.way import Settings, Told, await_gone, children, serves, settings

WORKERS = ["--worker-class", "gthread", "--workers", "2", "--threads", "16", "--keep-alive", "75"]


class Gunicorn:
    """Two threaded workers, on a listener of the master's."""

    def __init__(self, root: Path) -> None:
        self._gunicorn, self._root, self._port = tools.gunicorn(), root, free_port()
        shutil.copy(Path(__file__).with_name("apps") / "wsgi.py", root)
        self.url = f"http://127.0.0.1:{self._port}"
        self.master: subprocess.Popen[bytes] | None = None

    def begin(self, release: str) -> None:
        self._write(release, {})
        with (self._root / "gunicorn.log").open("ab") as log:
            self.master = subprocess.Popen(
                [*self._gunicorn, *WORKERS, "--bind", f"127.0.0.1:{self._port}", "wsgi:app"], cwd=self._root,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(serves(self.url, release), "gunicorn answers")

    def replace(self, release: str, more: Settings) -> Told:
        assert self.master is not None
        began, old = time.monotonic(), children(self.master.pid)
        self._write(release, more)
        os.kill(self.master.pid, signal.SIGHUP)
        if more:
            time.sleep(GIVES_UP)
        elif not await_gone(old):
            raise SystemExit(f"bench: gunicorn kept a worker of {old}")
        return Told(time.monotonic() - began, 0)

    def _write(self, release: str, more: Settings) -> None:
        (self._root / "settings.json").write_text(json.dumps(settings(release) | more))


@contextmanager
def gunicorn(root: Path) -> Iterator[Gunicorn]:
    root.mkdir(parents=True)
    way = Gunicorn(root)
    try:
        yield way
    finally:
        if way.master is not None:
            left = children(way.master.pid) if way.master.poll() is None else set()
            end(way.master)
            if not await_gone(left, 2):
                for pid in left:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
