"""What a rollout has just changed, watched for a while before it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from deployer.errors import DeployerError
from deployer.rollout.fleet import Fleet
from deployer.rollout.hostdeploy import HostDeploy

LOOK_EVERY = 5.0


def bake(fleet: Fleet, hosts: Sequence[str]) -> str | None:
    """Watch *hosts* for `bake` seconds: why to stop, None where all of them served all the time."""
    seconds = fleet.policy.bake
    there = [fleet.deploys[host] for host in hosts]
    deploys = [deploy for deploy in there if deploy.result.status == "done" or deploy in fleet.draining]
    if not seconds or not deploys:
        return None
    fleet.stream.event("bake.started", seconds=seconds, hosts=[deploy.host for deploy in deploys])
    until, reason = time.monotonic() + seconds, None
    while reason is None and (left := until - time.monotonic()) > 0:
        time.sleep(min(LOOK_EVERY, left))
        fleet.each(fleet.standing, HostDeploy.listen)
        reason = fleet.why_to_stop() or _spoiled_one(fleet, deploys)
    for deploy in deploys:
        deploy.close()
    fleet.stream.event("bake.finished", ok=reason is None, reason=reason)
    return reason


def _spoiled_one(fleet: Fleet, deploys: Sequence[HostDeploy]) -> str | None:
    away = []
    for deploy in deploys:
        try:
            reason = _spoiled(deploy, deploy.look())
        except DeployerError as error:  # for as long as `reconnect_within`
            deploy.close()
            away.append(f"{deploy.host} cannot be looked at any more: {error.cause or error.title}")
            continue
        if reason:
            return reason
    return away[0] if len(fleet.missing) + len(away) > fleet.policy.max_unreachable else None


def _spoiled(deploy: HostDeploy, facts: dict[str, Any]) -> str | None:
    if not facts["instance"] or facts["crashes"]:
        return f"{deploy.host} does not keep running on {deploy.result.release}"
    if deploy.order.config.settings()["health"]["url"] and not facts["health"]["good"]:
        return f"{deploy.host} says {facts['health']['health']}"
    return None
