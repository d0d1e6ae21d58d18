"""
idle: what a push costs when there is no work to wait for.

`deployer push` from the start of its process to its end, next to the old script, and next to the app's own stop and
start without any tool: from SIGTERM to the exit, and from exec to the first good answer of /health.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.figures import Figure, Table
from benchmarks.processes import ROOT, Run, answers, end, free_port, progress, wait_exit, wait_until
from benchmarks.project import events, project

GOAL = 500
LEGACY = ROOT / "scripts" / "legacy_deploy.sh"
PHASES = {
    "client's start: Python, imports, config": ("started", "push.started"),
    "look at the host, hash, send": ("push.started", "upload.finished"),
    "stage": ("upload.finished", "stage.finished"),
    "up to the signal": ("stage.finished", "drain.started"),
    "the app's stop": ("drain.started", "drain.finished"),
    "exec": ("drain.finished", "start.finished"),
    "the app's start, two good answers": ("start.finished", "ready"),
    "record, prune": ("ready", "host.finished"),
    "client's end": ("host.finished", "ended"),
}


@dataclass(frozen=True)
class Service:
    """A small service of tests/services and the command that runs it on $PORT."""

    language: str
    command: list[str]
    source: Path

    def copy_to(self, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.source, directory)
        return directory


Deploy = Callable[[int], Run]


def run(scratch: Path, rounds: int) -> list[Table]:
    """The tables of each service."""
    return [table for service in _services() for table in _measure(service, scratch / service.language, rounds)]


def _services() -> Iterator[Service]:
    """The Python service, and the Node one where Node is installed."""
    sources = ROOT / "tests" / "services"
    yield Service("Python", [sys.executable, "-S", "service.py"], sources / "service.py")
    node = shutil.which("node")
    if node:
        yield Service("Node", [node, "service.js"], sources / "service.js")


def _measure(service: Service, scratch: Path, rounds: int) -> list[Table]:
    runs: list[dict[str, Run]] = []
    with ExitStack() as stack:
        ways = {
            "deployer push": stack.enter_context(_push(service, scratch / "push")),
            "legacy_deploy.sh (it sleeps 2 s)": stack.enter_context(_legacy(service, scratch / "legacy")),
            "the app's own stop and start": stack.enter_context(_bare(service, scratch / "bare")),
        }
        for number in range(rounds + 1):
            progress(f"idle, {service.language}: {f'round {number} of {rounds}' if number else 'warm-up'}")
            runs.append({way: ways[way](number) for way in random.sample(list(ways), len(ways))})
    return _tables(f"idle · a {service.language} service, {rounds} rounds", list(ways), runs[1:])


def _tables(title: str, ways: list[str], runs: list[dict[str, Run]]) -> list[Table]:
    push, _, bare = ways
    beyond = [one[push].wall - one[bare].wall for one in runs]
    spent = [_spent(one[push]) for one in runs]
    cpu = [one[push].cpu for one in runs]
    return [
        Table(
            title,
            [
                *(Figure(way, [one[way].wall for one in runs]) for way in ways),
                Figure("push beyond the app's own stop and start", beyond, goal=GOAL),
            ],
        ),
        Table(
            f"{title}: where a push spends its time",
            [
                *(Figure(phase, [one[phase] for one in spent]) for phase in PHASES),
                Figure("CPU of the client and its agent", cpu),
            ],
        ),
    ]


def _spent(push: Run) -> dict[str, float]:
    """Milliseconds by phase, told by the events' own times."""
    told = {name: event["at"] for name, event in events(push.out).items()}
    moments = {"started": push.started_at, "ended": push.ended_at, **told}
    return {phase: (moments[until] - moments[since]) * 1000 for phase, (since, until) in PHASES.items()}


@contextmanager
def _push(service: Service, root: Path) -> Iterator[Deploy]:
    port = free_port()
    with project(root) as app:
        service.copy_to(app.dist)
        health = f'url = "http://127.0.0.1:{port}/health"'
        app.write(service.command, {"PORT": str(port)}, health)
        app.deployer("push")

        def deploy(number: int) -> Run:
            app.release(str(number))
            return app.deployer("push", "--json")

        yield deploy


@contextmanager
def _legacy(service: Service, root: Path) -> Iterator[Deploy]:
    port, new, here = free_port(), service.copy_to(root / "new"), service.copy_to(root / "app")
    pids: list[int] = []

    def deploy(number: int) -> Run:
        (new / "release.txt").write_text(str(number))
        done = processes.run([LEGACY, new, here, str(port), *service.command])
        pids[:] = [int(done.out.split()[-1])]
        wait_until(lambda: answers(port) == 200, "the service that the old script started answers")
        return done

    try:
        yield deploy
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
            wait_exit(pid)


@contextmanager
def _bare(service: Service, root: Path) -> Iterator[Deploy]:
    port, here = free_port(), service.copy_to(root)
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (here / "app.log").open("ab") as log:
            environment = {**os.environ, "PORT": str(port)}
            running.append(subprocess.Popen(service.command, cwd=here, env=environment, stdout=log, stderr=log))
        wait_until(lambda: answers(port) == 200, "the service answers", every=0.001)

    def deploy(_: int) -> Run:
        started = time.monotonic()
        if running:
            process = running.pop()
            process.terminate()
            process.wait()
        start()
        return Run((time.monotonic() - started) * 1000, 0.0, 0.0, 0.0, "")

    try:
        yield deploy
    finally:
        for process in running:
            end(process)
