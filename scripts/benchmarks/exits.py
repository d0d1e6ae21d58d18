"""
exit: how long the end of a process tree goes unnoticed.

From the exit of the last process of the old tree (seen through its pidfd) to the first act of the new one, next to the
shell loop `while kill -0 PID; do sleep 5; done`. The last process is a child that outlives the main one, ignores
SIGTERM and exits when it is told to. The new command is a shell whose first act is a word in a fifo; what its start
takes by itself, forked by the engine's own `spawn`, is measured beside it and taken off.
"""

from __future__ import annotations

import os
import random
import select
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, Table
from benchmarks.processes import PATIENCE, ROOT, end, progress, wait_exit, wait_until
from benchmarks.project import Project, project

GOAL = 5
LOOP = 'while kill -0 "$1" 2>/dev/null; do sleep 5; done; echo gone'
SPAWN = """
import os, sys, time
sys.path.append(sys.argv[1])
from deployer.host import keeper, spawn
print(time.monotonic(), flush=True)
os.waitpid(spawn.spawn(sys.argv[2:], "/", dict(os.environ), 1), 0)
"""
APP = """\
echo started >"$FIFOS/started"
sh -c 'trap "" TERM; echo "$$" >"$FIFOS/last.pid"; read word <"$FIFOS/end"' &
echo "$$" >"$FIFOS/main.pid"
wait
"""


@dataclass(frozen=True)
class Fifos:
    """The two words between the app and us, and where it leaves its pids."""

    directory: Path
    started: int
    end: int

    @classmethod
    def make(cls, directory: Path) -> Fifos:
        directory.mkdir(parents=True)
        for name in ("started", "end"):
            os.mkfifo(directory / name)
        # Open for both, so that neither side ever waits for the other to open.
        return cls(directory, *(os.open(directory / name, os.O_RDWR) for name in ("started", "end")))

    def pid(self, name: str) -> int:
        return int((self.directory / f"{name}.pid").read_text())

    def await_start(self) -> float:
        """The moment of the app's first act."""
        if not select.select([self.started], [], [], PATIENCE)[0]:
            raise SystemExit("bench: the new process did not start")
        moment = time.monotonic()
        os.read(self.started, 100)
        wait_until(lambda: self._written("last") and self._written("main"), "the app has left its pids")
        return moment

    def let_end(self) -> None:
        """Let the last process exit, and the next one find no pids of others."""
        for name in ("last", "main"):
            (self.directory / f"{name}.pid").unlink(missing_ok=True)
        os.write(self.end, b"now\n")

    def _written(self, name: str) -> bool:
        path = self.directory / f"{name}.pid"
        return path.exists() and path.read_text().endswith("\n")


def run(scratch: Path, rounds: int) -> list[Table]:
    """One table: the keeper, the start of the new command alone, and the shell loop."""
    with ThreadPoolExecutor(rounds) as pool:
        # The loops sleep nearly all the time, so all of them run beside the restarts.
        loops = [pool.submit(_loop, random.uniform(0, 5)) for _ in range(rounds)]
        noticed, bare = _restarts(scratch, rounds)
        looped = [loop.result() for loop in loops]
    start = statistics.median(bare)
    figures = [
        Figure("exit of the last process to the new one's first act", noticed),
        Figure("fork, exec and first act alone", bare),
        Figure("exit to the next step: the first less the second", [one - start for one in noticed], goal=GOAL),
        Figure("shell loop with `sleep 5`, from random phases", looped),
    ]
    return [Table(f"exit · {rounds} restarts", figures)]


def _restarts(scratch: Path, rounds: int) -> tuple[list[float], list[float]]:
    noticed, bare = [], []
    fifos = Fifos.make(scratch / "fifos")
    with project(scratch / "app") as app:
        _first_start(app, fifos)
        for number in range(1, rounds + 1):
            progress(f"exit: restart {number} of {rounds}")
            noticed.append(_restart(app, fifos))
            bare.append(_bare(app, Fifos.make(scratch / f"fifos{number}")))
        os.write(fifos.end, b"now\n")
    return noticed, bare


def _first_start(app: Project, fifos: Fifos) -> None:
    app.dist.mkdir(parents=True)
    (app.dist / "app.sh").write_text(APP)
    app.write(["sh", "app.sh"], {"FIFOS": str(fifos.directory)}, 'alive_for = "0s"')
    app.deployer("push")
    fifos.await_start()


def _restart(app: Project, fifos: Fifos) -> float:
    """Milliseconds from the exit of the last old process to the first act of the new one."""
    main, last = fifos.pid("main"), fifos.pid("last")
    client = app.start("restart")
    try:
        wait_exit(main)
        time.sleep(random.uniform(0.02, 0.2))  # the work that the last process still does
        fifos.let_end()
        gone = wait_exit(last)
        took = (fifos.await_start() - gone) * 1000
        client.wait(PATIENCE)
        return took
    finally:
        end(client)


def _bare(app: Project, fifos: Fifos) -> float:
    """Milliseconds from the fork to the first act, in a process that does nothing but what the keeper does then."""
    command = [sys.executable, "-I", "-S", "-c", SPAWN, str(ROOT / "src"), "sh", str(app.dist / "app.sh")]
    process = subprocess.Popen(command, env={**os.environ, "FIFOS": str(fifos.directory)}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        forked = float(process.stdout.readline())
        return (fifos.await_start() - forked) * 1000
    finally:
        fifos.let_end()
        process.communicate(timeout=PATIENCE)


def _loop(lives: float) -> float:
    """Milliseconds from the exit of a process to the moment at which the loop has noticed."""
    process = subprocess.Popen(["sleep", str(lives)])
    loop = subprocess.Popen(["sh", "-c", LOOP, "sh", str(process.pid)], stdout=subprocess.PIPE)
    try:
        gone = wait_exit(process.pid)
        process.wait()
        assert loop.stdout is not None
        loop.stdout.read()
        return (time.monotonic() - gone) * 1000
    finally:
        end(loop)
        end(process)
