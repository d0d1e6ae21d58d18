"""cli: the CPU of a command, its agent's included, next to Python doing nothing."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from benchmarks import processes
from benchmarks.figures import Figure, Table
from benchmarks.processes import Run, deployer, progress
from benchmarks.project import project

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "deployer --version": [*deployer(), "--version"],
    "deployer --help": [*deployer(), "--help"],
    "deployer push --help": [*deployer(), "push", "--help"],
    "deployer status": [*deployer(), "status"],
    "deployer push, nothing new": [*deployer(), "push"],
}
GOALS = {"deployer --version": 60, "deployer --help": 250}


def run(scratch: Path, rounds: int) -> list[Table]:
    """CPU, which has goals, and wall clock."""
    runs: list[dict[str, Run]] = []
    with project(scratch) as app:
        app.write(["sleep", "1000000"], health='alive_for = "0s"')
        app.release("1")
        app.deployer("push")
        for number in range(rounds + 1):
            progress(f"cli: {f'round {number} of {rounds}' if number else 'warm-up'}")
            order = random.sample(list(COMMANDS), len(COMMANDS))
            runs.append({name: processes.run(COMMANDS[name], cwd=app.root) for name in order})
    cpu = [Figure(name, [one[name].cpu for one in runs[1:]], goal=GOALS.get(name)) for name in COMMANDS]
    wall = [Figure(name, [one[name].wall for one in runs[1:]]) for name in COMMANDS]
    return [Table(f"cli · CPU, {rounds} rounds", cpu), Table(f"cli · wall clock, {rounds} rounds", wall)]
