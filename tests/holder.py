"""The smallest holder of a listening socket: instances of an app come and go on it, and it stays. What deployer does, in a page."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from app import SERVICES, wait_until

PYTHON_APP = [sys.executable, "-S", str(SERVICES / "overlap_app.py")]
NODE_APP = ["node", str(SERVICES / "overlap_app.js")]
# exec keeps the pid, so that LISTEN_PID is the app's.
AS_FD_3 = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execvpe(sys.argv[2], sys.argv[2:], {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})"""


class Holder:
    """`with Holder(PYTHON_APP) as holder: holder.swap()`. Every instance is ended at the end, by its pid."""

    def __init__(self, argv: list[str], **env: str) -> None:
        self.argv, self.env = argv, env
        self.instances: list[subprocess.Popen[bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Holder:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for instance in self.instances:
            instance.kill()
            instance.wait()
        self._listener.close()

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        """One more instance; returns once it has answered on the shared socket itself."""
        release = f"r{len(self.instances) + 1}"
        held = self._listener.fileno()
        instance = subprocess.Popen(
            [sys.executable, "-S", "-c", AS_FD_3, str(held), *self.argv],
            env={**os.environ, **self.env, "DEPLOYER_RELEASE": release, **env},
            pass_fds=[held],
        )
        self.instances.append(instance)
        wait_until(lambda: self._answers(instance), within=30, what=f"{release} answers")
        assert instance.poll() is None, f"{release} has exited with {instance.returncode}"
        return instance

    def _answers(self, instance: subprocess.Popen[bytes]) -> bool:
        return instance.poll() is not None or self.ask()["pid"] == instance.pid

    def ask(self, path: str = "/") -> dict[str, Any]:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def swap(self) -> subprocess.Popen[bytes]:
        """The new one answers, then the old one is asked to stop. Returns the old one, which may still finish its work."""
        old = self.instances[-1]
        self.start()
        old.send_signal(signal.SIGTERM)
        return old

    def all_ended_well(self) -> bool:
        """Whether each instance but the last has exited, with 0."""
        return [instance.poll() for instance in self.instances[:-1]] == [0] * (len(self.instances) - 1)


def copy_of(app: list[str], to: Path) -> list[str]:
    """*app* and its helper as an artifact in *to*: the argv to run it there."""
    helper = SERVICES.parent.parent / "examples" / "lame_duck" / f"lame_duck{Path(app[-1]).suffix}"
    for path in (Path(app[-1]), helper):
        (to / path.name).write_bytes(path.read_bytes())
    return [*app[:-1], Path(app[-1]).name]
