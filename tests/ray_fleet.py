"""
A fleet (fleet.py) in the network of a Ray box (ray_rig.py), whose `deployer` runs in there, beside the cluster.

    with ray_box() as box, fleet_on(box, root, 4) as fleet: box.head(); fleet.push("--engine", "ray")

The nodes of the cluster that start later log in as the person of the fleet: their HOME is hers.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app import Result, alive, command, read, wait_until
from fleet import Fleet, make_fleet
from netns import inside
from ray_rig import RayBox, _namespace_members
from read_ahead import whole

DIFFERS = ("drain.progress", "upload.progress", "upload.finished", "link.lost", "link.restored")


class BoxedFleet(Fleet):
    """`on` is the box; everything else as Fleet."""

    on: RayBox

    def _popen(self, args: tuple[str, ...], env: dict[str, str], **more: Any) -> subprocess.Popen[str]:
        return self.on.popen(command(*args), cwd=str(self.root), env={**self.env, **env}, **more)

    def shards(self) -> list[int]:
        """The processes on the cluster that carry links."""
        members = _namespace_members(self.on.realm.init)
        return [pid for pid in members if read(f"/proc/{pid}/cmdline").startswith(b"ray::Shard")]

    def kill_shards(self) -> None:
        pids = self.shards()
        assert pids, "no shard lives"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, pids)), what="the shards have gone")

    def signals(self) -> list[int]:
        """How often the app on each host was asked to stop, all in all."""
        return [len(host.lines("SIGNALS_FILE")) for host in self.hosts]

    def starts(self) -> list[int]:
        return [len(host.lines("STARTS_FILE")) for host in self.hosts]

    def idle(self) -> bool:
        """Nothing is under way on any host."""
        return not any(facts["under_way"] for facts in self.status().values())


@contextmanager
def fleet_on(box: RayBox, root: Path, count: int) -> Iterator[BoxedFleet]:
    """*count* hosts that can be reached from *box*, and from nowhere else."""
    with inside(f"/proc/{box.realm.init}/ns/net"), make_fleet(root, count, kind=BoxedFleet) as fleet:
        assert isinstance(fleet, BoxedFleet)
        fleet.on = box
        box.env["HOME"] = str(fleet.bed.home)
        yield fleet


def course(result: Result) -> tuple[int, list[str], dict[str, list[str]]]:
    """What a push did, without what differs between two that are alike: the exit code, its stages, the steps of each host."""
    told = [event for event in result.events if event["event"] not in DIFFERS]
    stages = [event["event"] for event in told if "host" not in event]
    steps: dict[str, list[str]] = {}
    for event in told:
        if "host" in event:
            steps.setdefault(event["host"], []).append(event["event"])
    return result.code, stages, steps


def ended(process: subprocess.Popen[str], before: str = "") -> Result:
    """A client that was begun, at its end; *before* is what was read of it already."""
    out, err = process.communicate(timeout=60)
    return Result(process.returncode, before + out, err, 0)


def read_until(process: subprocess.Popen[str], name: str, count: int = 1) -> str:
    """The lines of a client up to the event *name*, the *count*-th of it."""
    lines = ""
    assert whole(process).stdout is not None
    while count:
        line = process.stdout.readline()  # type: ignore[union-attr]
        assert line, f"it ended without {name}:\n{lines}"
        lines += line
        count -= f'"event": "{name}"' in line
    return lines
