"""
ray: one deploy to many hosts, called from threads of the client and from a Ray cluster (docs/rollouts-on-ray.md).

Hosts as in `fleet`; they, the client and the cluster share this machine, so the wall clock of both is that of the hosts' own work.
What more cores would give is reckoned from what was measured: the client's CPU is serial, the cluster's is not.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, Table
from benchmarks.fleet import FILES, Content
from benchmarks.fleet_hosts import Hosts, serve
from benchmarks.fleet_tools import REAPER, Deployer, Scene
from benchmarks.processes import ROOT, deployer, progress

sys.path.insert(0, str(ROOT / "tests"))

from netns import inside
from ray_rig import RayBox, ray_box

SIZES = (50, 200)
ENGINES = ("threads", "ray")
CORES = (16, 64)


@dataclass(frozen=True)
class Cost:
    """Of one push to all hosts, in seconds: wall clock, CPU of the client, of the cluster, and of the hosts."""

    wall: float
    client: float
    cluster: float
    hosts: float


class Boxed:
    """`deployer push` inside *box*, beside the cluster."""

    def __init__(self, box: RayBox, scene: Scene) -> None:
        self.box, self.scene = box, scene
        Deployer(scene)  # writes deploy.toml
        file = scene.work / "deploy.toml"  # 200 hosts that start at once on two cores wait too long for each other
        file.write_text(file.read_text().replace('batch = "100%"', 'batch = "25%"'))

    def push(self, engine: str) -> Cost:
        """One push to its end; SystemExit where it fails, or leaves a host with something else than it should run."""
        scene = self.scene
        hosts, inside_box = scene.all.cpu() or 0.0, self._cpu()
        command = [sys.executable, "-S", str(REAPER), *deployer(), "push", "fleet", "--engine", engine]
        done = self.box.run(command, check=False, timeout=600, cwd=str(scene.work))
        told = json.loads(done.out.rstrip().rpartition("\n")[2])
        if told["status"] != 0:
            raise SystemExit(
                f"bench: the push with {engine} failed with {told['status']}:\n{(done.out + done.err)[-4000:]}"
            )
        scene.check()
        cluster = self._cpu() - inside_box - told["cpu"]
        return Cost(told["wall"], told["cpu"], cluster, (scene.all.cpu() or 0.0) - hosts)

    def _cpu(self) -> float:
        """Seconds of CPU of all that has run in the box."""
        lines = (self.box.realm.cgroup / "session" / "cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6


def run(scratch: Path, rounds: int) -> list[Table]:
    """The tables for each number of hosts."""
    with ExitStack() as stack:
        box = stack.enter_context(ray_box())
        stack.enter_context(inside(f"/proc/{box.realm.init}/ns/net"))
        hosts = stack.enter_context(serve(scratch / "fleet", max(SIZES)))
        box.env["HOME"] = str(hosts.home)
        box.head(cpus=2)
        return [table for size in SIZES for table in _measure(box, hosts, scratch, size, rounds)]


def _measure(box: RayBox, hosts: Hosts, scratch: Path, size: int, rounds: int) -> list[Table]:
    content, work = Content(scratch / f"dist{size}"), scratch / f"ray{size}"
    work.mkdir()
    boxed = Boxed(box, Scene(work, content.root, hosts, hosts.hosts[:size], f"ray{size}"))
    costs: dict[str, list[Cost]] = {engine: [] for engine in ENGINES}
    try:
        progress(f"ray, {size} hosts: the very first push")
        boxed.push("ray")
        for number in range(1, rounds + 1):
            for engine in random.sample(ENGINES, len(ENGINES)):
                progress(f"ray, {size} hosts: round {number} of {rounds}, {engine}")
                content.change(FILES)
                costs[engine].append(boxed.push(engine))
    finally:
        hosts.clear()
    return _tables(size, costs)


def _tables(size: int, costs: dict[str, list[Cost]]) -> list[Table]:
    wall = [Figure(engine, [one.wall for one in costs[engine]], "s") for engine in ENGINES]
    each = [
        Figure(f"{engine}: {name}", [getattr(one, name) / size * 1000 for one in costs[engine]])
        for engine in ENGINES
        for name in ("client", "cluster", "hosts")
        if (engine, name) != ("threads", "cluster")
    ]
    return [
        Table(f"ray · {size} hosts: wall clock of a push, all files changed, two cores for everything", wall),
        Table(f"ray · {size} hosts: CPU for each host", each),
        Table(f"ray · {size} hosts: reckoned for hosts with cores of their own", _reckoned(costs)),
    ]


def _reckoned(costs: dict[str, Sequence[Cost]]) -> list[Figure]:
    """
    Seconds that CPU alone costs whoever pushes. The threads of one Python take turns, so their CPU is serial whatever the machine
    has; with Ray the client's is, and what the cluster does is divided by its cores.
    """
    threads = Figure("threads, any number of cores", [one.client for one in costs["threads"]], "s")
    return [threads] + [
        Figure(f"ray, {cores} cores", [one.client + one.cluster / cores for one in costs["ray"]], "s")
        for cores in CORES
    ]
