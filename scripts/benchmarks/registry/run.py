"""
registry: 1,000, 5,000 and 10,000 idle nodes at the registry, next to the least that the same library can do.

The same clients, in two other processes, do the same to both, one after the other, in each round: connect and register, beat
for 10 s (every 5 s each), go one by one without a word while the others go on beating, and at last all at once with a close frame.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Table
from benchmarks.processes import PATIENCE, ROOT, end, progress

NODES = (1_000, 5_000, 10_000)
HEARTBEAT = 5.0
GOALS = {5_000: {"p99": 10.0, "memory": 1.5, "leave": 1500.0}}
"""Milliseconds from a close to offline, times the floor's memory, milliseconds for all to leave."""


@dataclass(frozen=True)
class Measured:
    """What *nodes* nodes cost one server, and how soon it knew: KiB a node, % of a core, milliseconds."""

    memory: float
    connect: float
    beats: float
    noticed: list[float]
    leave: float
    after_last: float

    def percentile(self, share: float) -> float:
        ordered = sorted(self.noticed)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Told:
    """A process that answers each line with a line of JSON."""

    def __init__(self, module: str, *argv: object) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'scripts'}"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.registry.{module}", *map(str, argv)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        )  # fmt: skip

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("bench: a process of the registry's benchmark has died")
        return json.loads(line)

    def ask(self, line: str) -> Any:
        self.tell(line)
        return self.answer()


def run(scratch: Path, rounds: int) -> list[Table]:
    """A table for each number of nodes."""
    return [_compared(count, rounds) for count in NODES]


def _compared(count: int, rounds: int) -> Table:
    found: dict[str, list[Measured]] = {"ours": [], "floor": []}
    for number in range(rounds):
        for server in random.sample(list(found), len(found)):
            progress(f"registry, {count:,} nodes, round {number + 1} of {rounds}: {server}")
            found[server].append(measured(server, count))
    return Table(f"registry · {count:,} idle nodes, {rounds} rounds", list(_figures(found, GOALS.get(count, {}))))


def measured(server: str, count: int, closes: int = 500, seconds: float = 10.0) -> Measured:
    """One life of *server* with *count* nodes, *closes* of which go one by one (at most half of them)."""
    with _started(server) as (ours, port), ExitStack() as stack:
        crowds = [stack.enter_context(_crowd(port, first)) for first in (0, count)]
        crowds[0].ask("open 50")  # what the first ones cost is not what one more costs
        crowds[0].ask("leave")
        _gone(ours, 50)
        empty, began = ours.ask("figures"), time.monotonic()
        for crowd in crowds:
            crowd.tell(f"open {count // 2}")
        for crowd in crowds:
            crowd.answer()
        connect, full = (time.monotonic() - began) * 1000, ours.ask("figures")
        for crowd in crowds:
            crowd.tell(f"beat {seconds} {HEARTBEAT}")
        for crowd in crowds:
            crowd.answer()
        beaten = ours.ask("figures")
        noticed = _one_by_one(ours, crowds, min(closes, count // 4))
        leave, after_last = _all_at_once(ours, crowds, count - len(noticed))
        return Measured(
            (full["kib"] - empty["kib"]) / count,
            connect,
            (beaten["cpu"] - full["cpu"]) / seconds * 100,
            noticed,
            leave,
            after_last,
        )


def _one_by_one(server: Told, crowds: Sequence[Told], closes: int) -> list[float]:
    crowds[1].tell(f"beat {closes * 0.006:.1f} {HEARTBEAT}")
    went = crowds[0].ask(f"close {closes}")
    crowds[1].answer()
    known = _gone(server, closes)
    return [(known[name] - moment) * 1000 for name, moment in went.items()]


def _all_at_once(server: Told, crowds: Sequence[Told], left: int) -> tuple[float, float]:
    """Milliseconds from the first one's close, and from the last one's, until the last one was offline."""
    for crowd in crowds:
        crowd.tell("leave")
    went = [moment for crowd in crowds for moment in crowd.answer().values()]
    known = _gone(server, left)
    return (max(known.values()) - min(went)) * 1000, (max(known.values()) - max(went)) * 1000


def _gone(server: Told, count: int) -> dict[str, float]:
    """When each was offline, once *count* are."""
    deadline = time.monotonic() + PATIENCE
    while server.ask("count") < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: waited {PATIENCE:g} s until {count} nodes were offline")
        time.sleep(0.05)
    return dict(server.ask("gone"))


def _figures(found: dict[str, list[Measured]], goals: dict[str, float]) -> Iterator[Figure]:
    ours, floor = found["ours"], found["floor"]
    for who, all in (("registry", ours), ("floor", floor)):
        goal = goals if all is ours else {}
        yield Figure(f"{who}: memory of a node", [one.memory for one in all], "KiB")
        yield Figure(f"{who}: CPU of heartbeats, every 5 s", [one.beats for one in all], "% of a core")
        yield Figure(f"{who}: a close to offline, p50", [statistics.median(one.noticed) for one in all])
        yield Figure(f"{who}: a close to offline, p99", [one.percentile(0.99) for one in all], goal=goal.get("p99"))
        yield Figure(f"{who}: all connect and register", [one.connect for one in all])
        yield Figure(
            f"{who}: all leave, first close to last offline", [one.leave for one in all], goal=goal.get("leave")
        )
        yield Figure(f"{who}: all leave, last close to last offline", [one.after_last for one in all])
    ratios = [mine.memory / least.memory for mine, least in zip(ours, floor, strict=True)]
    yield Figure("memory: registry / floor", ratios, "x", goal=goals.get("memory"))


@contextmanager
def _started(server: str) -> Iterator[tuple[Told, int]]:
    told = Told("servers", server)
    try:
        yield told, told.answer()
    finally:
        end(told.process)


@contextmanager
def _crowd(port: int, first: int) -> Iterator[Told]:
    told = Told("nodes", port, first)
    try:
        yield told
    finally:
        end(told.process)
