"""
A batch job with two services, as an App: `cache` is a class, `queue` a program; the job is batch_job.py.

    app.batch("wait fail 3")                  what the job does; `cache=` the class, `queue=` how the program behaves
    app.run("run", "--json")                  as ever
    app.left()                                processes and files of the job that are still there: looked for
    app.told()                                {"cache": ["built", "stop", "cleanup"], …}
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app import SERVICES, App, command, make_app, read, wait_until

STAYS = ("keeper.lock", "keeper.sock", "waiting")
"""Of `.deployer/run`: what is not of a job."""


class BatchApp(App):
    """See above."""

    def batch(self, job: str = "", cache: str = "Cache", queue: str = "", more: str = "", **job_table: Any) -> None:
        here = json.dumps(str(self.root))
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in job_table.items())
        text = f"""
app = "t-app"
[build]
artifact = "dist"
[run]
env = {{ HERE = {here} }}
[job]
command = [{json.dumps(sys.executable)}, "-S", "batch_job.py"]
env = {{ JOB = {json.dumps(job)} }}
{lines}
[services.cache]
class = "batch_services:{cache}"
cleanup_timeout = "500ms"
[services.queue]
command = [{json.dumps(sys.executable)}, "-S", "batch_services.py", {json.dumps(queue)}]
cleanup_timeout = "700ms"
[services.queue.health]
alive_for = "100ms"
[target.local]
path = {json.dumps(str(self.host))}
{more}
"""
        (self.root / "deploy.toml").write_text(text)

    def told(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        path = self.root / "services"
        for line in path.read_text().splitlines() if path.exists() else []:
            name, what = line.split()
            found.setdefault(name, []).append(what)
        return found

    def began(self) -> list[int]:
        """The pids of the jobs that have begun."""
        path = self.root / "began"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def go(self) -> None:
        """Let a job that waits go on."""
        (self.root / "go").touch()

    def left(self) -> list[str]:
        """What is still there of a job: processes of it, sockets, reports. The keeper goes two seconds after the last."""
        marked = [pid for pid in self.processes() if b"DEPLOYER_INSTANCE=" in read(f"/proc/{pid}/environ")]
        processes = [read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode() for pid in marked]
        run = self.host / ".deployer" / "run"
        return processes + [path.name for path in run.iterdir() if path.name not in STAYS]

    def gone(self) -> bool:
        """Nothing of a job is left; its runner has three seconds after its last word."""
        wait_until(lambda: not self.left(), 20, "nothing is left")
        return True

    def started(self, *args: str) -> Any:
        """`deployer run --json ARGS`, begun, once its job works."""
        before = len(self.began())
        running = self.start("run", "--json", *args)
        wait_until(lambda: len(self.began()) > before or running.poll() is not None, what="the job works")
        assert running.poll() is None, running.communicate()
        return running

    def events_of(self, out: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in out.splitlines()]


def printed(events: list[dict[str, Any]]) -> list[str]:
    """What the job printed, as it was told."""
    return [event["line"] for event in events if event["event"] == "job.output"]


def services(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The last `service.stopped` of each service, in the order in which they were stopped."""
    return {event["service"]: event for event in events if event["event"] == "service.stopped"}


@contextmanager
def make_batch(root: Path) -> Iterator[BatchApp]:
    with make_app(root, BatchApp) as app:
        assert isinstance(app, BatchApp)
        for name in ("batch_job.py", "batch_services.py"):
            shutil.copy(SERVICES / name, app.dist / name)
        app.batch()
        yield app


__all__ = ["BatchApp", "command", "make_batch", "printed", "services"]
