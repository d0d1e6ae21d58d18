"""Bring back what should run and has nobody to look after it: a keeper or runner that died, or a reboot."""

from __future__ import annotations

import json
import time
from typing import Any, Dict

from deployer.host import lock
from deployer.host.beside.homes import homes
from deployer.host.deploy import in_drain, unfinished
from deployer.host.instance import desired
from deployer.host.paths import HostPaths
from deployer.host.process import Processes
from deployer.host.state import State, opened
from deployer.host.supervisors import builtin
from deployer.model import Identity

SETTLE_WITHIN = 3.0
LOOK_AGAIN = 0.1


def wake(paths: HostPaths, processes: Processes) -> None:
    """
    A keeper for what should run, services first, and runners for the deploys that were interrupted; nothing where all are there.

    Whoever comes next calls it. Raises OSError and DeployerError where the disk or the machine lets nobody start anything.
    """
    for own in homes(paths).values():
        _wake(own, processes)  # first: the app may need them
    _wake(paths, processes)


def _wake(paths: HostPaths, processes: Processes) -> None:
    with opened(paths.state) as state:
        interrupted = unfinished(state)
        draining = [row["id"] for row in in_drain(state)]
        wanted = interrupted is not None or (state is not None and _needs_keeper(state, processes))
    connection = builtin.connect(paths)
    if connection is None and wanted:
        connection = builtin.start(paths)
        _settle(paths)
    if connection is not None:
        connection.close()
    if interrupted and lock.free(paths.lock):
        builtin.resume(paths, interrupted["id"])
    for name in draining:
        if lock.free(paths.drain_lock(name)):
            builtin.resume(paths, name)


def _needs_keeper(state: State, processes: Processes) -> bool:
    row = desired(state)
    if row is None or json.loads(row["spec"]).get("owner") is None:
        return row is not None
    # Somebody else keeps it running: only what has changed since the record was written must be looked at.
    known = Identity(int(row["pid"] or 0), int(row["start"] or 0), str(row["boot"]))
    return row["state"] != "ended" and not processes.alive(known)


def _settle(paths: HostPaths) -> None:
    # The keeper starts what should run at once; give it the moment that takes, so that `status` tells the outcome.
    keeper = builtin.Builtin(paths)
    deadline = time.monotonic() + SETTLE_WITHIN
    while _is_about_to_know(keeper.status()) and time.monotonic() < deadline:
        keeper.wait(min(deadline, time.monotonic() + LOOK_AGAIN))
    keeper.close()


def _is_about_to_know(status: Dict[str, Any]) -> bool:
    """Whether a keeper with this *status* starts something, or has asked somebody who has not answered yet."""
    desired = status["desired"]
    return bool(status.get("asks") or (desired and desired["state"] == "promised"))
