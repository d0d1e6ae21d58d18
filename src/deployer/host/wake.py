"""Bring back what should run and has nobody to look after it: a keeper or runner that died, or a reboot."""

from __future__ import annotations

import time

from deployer.host import lock
from deployer.host.deploy import in_drain, unfinished
from deployer.host.paths import HostPaths
from deployer.host.state import opened
from deployer.host.supervisors import builtin

SETTLE_WITHIN = 3.0


def wake(paths: HostPaths) -> None:
    """
    A keeper for what should run, and runners for the deploys that were interrupted; nothing where all are there.

    Whoever comes next calls it. Raises OSError and DeployerError where the disk or the machine lets nobody start anything.
    """
    with opened(paths.state) as state:
        interrupted = unfinished(state)
        draining = [row["id"] for row in in_drain(state)]
        wanted = interrupted is not None or (state is not None and state.meta("desired") is not None)
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


def _settle(paths: HostPaths) -> None:
    # The keeper starts what should run at once; give it the moment that takes, so that `status` tells the outcome.
    keeper = builtin.Builtin(paths)
    deadline = time.monotonic() + SETTLE_WITHIN
    desired = keeper.status()["desired"]
    while desired and desired["state"] == "promised" and time.monotonic() < deadline:
        keeper.wait(deadline)
        desired = keeper.status()["desired"]
    keeper.close()
