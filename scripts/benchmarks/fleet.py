"""
fleet: one deploy to many hosts, next to Ansible, pyinfra and Fabric doing the same.

Every host is a real OpenSSH server on an address of its own; all of them, and the client, share this machine. The service is
stopped and started, 200 files of 2 MB are staged. Peers run at the smaller sizes only.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.figures import Figure, Table
from benchmarks.fleet_hosts import Hosts, serve
from benchmarks.fleet_tools import Ansible, Cost, Deployer, Fabric, Pyinfra, Scene, Tool, peers
from benchmarks.processes import deployer, progress

FILES, SIZE = 200, 10_000
SIZES = (10, 50, 100, 200)
PEERS_UP_TO = 50
HEADLINE = 50
CPU_GOAL = 60
ALONE_GOAL = 1.5
GOALS = {"ansible": 1 / 5, "pyinfra": 1 / 2, "fabric": 1 / 2}
OURS, ONE = "deployer", "deployer, one file changed"


def run(scratch: Path, rounds: int) -> list[Table]:
    """Wall clock, CPU of the client and of the hosts, and how ours compares, for each number of hosts."""
    peers()
    with serve(scratch / "fleet", max(SIZES)) as hosts:
        sized = [table for size in SIZES for table in measure(hosts, scratch, size, rounds)]
        return [alone(hosts, scratch, rounds * 4), *sized]


def alone(hosts: Hosts, scratch: Path, rounds: int) -> Table:
    """One host, nothing changed, next to OpenSSH doing nothing there."""
    content, work = Content(scratch / "dist1"), scratch / "alone"
    work.mkdir()
    scene = Scene(work, content.root, hosts, hosts.hosts[:1], "alone")
    tool = Deployer(scene)
    ways: dict[str, Callable[[], Cost]] = {
        "ssh host true": lambda: scene.run(["ssh", "-F", hosts.config, scene.hosts[0].address, "true"]),
        "deployer status": lambda: scene.run([*deployer(), "status", "fleet"]),
        "deployer push, nothing changed": tool.deploy,
    }
    tool.deploy()
    try:
        progress(f"fleet, one host: {rounds} rounds")
        costs = [{name: ways[name]() for name in random.sample(list(ways), len(ways))} for _ in range(rounds)]
    finally:
        hosts.clear()
    figures = [Figure(name, [one[name].wall * 1000 for one in costs]) for name in ways]
    ssh, *ours = ways
    ratios = [Figure(f"{n} / ssh", [one[n].wall / one[ssh].wall for one in costs], "", ALONE_GOAL) for n in ours]
    return Table(f"fleet · one host, {rounds} rounds: wall clock", [*figures, *ratios])


def measure(hosts: Hosts, scratch: Path, size: int, rounds: int) -> list[Table]:
    """The tables of *size* hosts."""
    content = Content(scratch / f"dist{size}")
    with tools(hosts, scratch, content.root, size) as made:
        first, costs = {}, []
        for name, tool in made.items():
            progress(f"fleet, {size} hosts: the very first deploy by {name}")
            first[name] = _deploy(tool)
        for number in range(1, rounds + 1):
            progress(f"fleet, {size} hosts: round {number} of {rounds}")
            costs.append(_round(made, content))
    return list(_tables(size, first, costs, rounds))


class Content:
    """The artifact: files that do not compress."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.change()

    def change(self, files: int = FILES) -> None:
        """Make the first *files* other ones."""
        for number in range(files):
            (self.root / f"f{number}").write_bytes(os.urandom(SIZE))


@contextmanager
def tools(hosts: Hosts, scratch: Path, dist: Path, size: int) -> Iterator[dict[str, Tool]]:
    """The tools for the first *size* hosts; what they have started there ends with them."""
    kinds: dict[str, Callable[[Scene], Tool]] = {OURS: Deployer}
    if size <= PEERS_UP_TO:
        kinds |= {"ansible": Ansible, "ansible, the usual modules": lambda scene: Ansible(scene, usual=True)}
        kinds |= {"pyinfra": Pyinfra, "fabric": Fabric}
    made = {}
    for name, kind in kinds.items():
        label = f"{name.replace(' ', '-').replace(',', '')}-{size}"
        work = scratch / label
        work.mkdir()
        made[name] = kind(Scene(work, dist, hosts, hosts.hosts[:size], label))
    try:
        yield made
    finally:
        hosts.clear()


def _round(made: dict[str, Tool], content: Content) -> dict[str, Cost]:
    ways: dict[str, tuple[Tool, int]] = {name: (tool, FILES) for name, tool in made.items()}
    ways[ONE] = (made[OURS], 1)
    costs = {}
    for name in random.sample(list(ways), len(ways)):
        tool, changed = ways[name]
        content.change(changed)
        costs[name] = _deploy(tool)
    return costs


def _deploy(tool: Tool) -> Cost:
    cost = tool.deploy()
    tool.scene.check()
    return cost


def _tables(size: int, first: dict[str, Cost], costs: list[dict[str, Cost]], rounds: int) -> Iterator[Table]:
    names = list(costs[0])
    names.sort(key=lambda name: (not name.startswith(OURS), name))
    wall = [Figure(name, [one[name].wall for one in costs], "s") for name in names]
    wall.append(Figure("deployer, the very first time", [first[OURS].wall], "s"))
    for name in names:
        if name in first and name != OURS:
            ratios = [one[OURS].wall / one[name].wall for one in costs]
            wall.append(Figure(f"ours / {name}", ratios, "", GOALS.get(name) if size == HEADLINE else None))
    yield Table(f"fleet · {size} hosts, {rounds} rounds: wall clock", wall)
    cpu = [
        Figure(
            name,
            [one[name].cpu / size * 1000 for one in costs],
            goal=CPU_GOAL if name.startswith(OURS) and size >= HEADLINE else None,
        )
        for name in names
    ]
    cpu.append(Figure("deployer, the very first time", [first[OURS].cpu / size * 1000]))
    yield Table(f"fleet · {size} hosts: CPU of the client, for each host", cpu)
    if costs[0][OURS].hosts_cpu is not None:
        there = [Figure(n, [(one[n].hosts_cpu or 0) / size * 1000 for one in costs]) for n in names]
        yield Table(f"fleet · {size} hosts: CPU on each host, its sshd included", there)
