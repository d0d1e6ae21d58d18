"""What a rollout has just changed, watched for a while before it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence

from deployer.errors import DeployerError
from deployer.rollout.fleet import Fleet
from deployer.rollout.hostdeploy import HostDeploy

LOOK_EVERY = 5.0


def bake(fleet: Fleet, hosts: Sequence[str]) -> str | None:
    """Watch *hosts* for `bake` seconds: why to stop, None where all of them served all the time."""
    seconds = fleet.policy.bake
    deploys = [deploy for host in hosts if (deploy := fleet.deploys[host]).result.status == "done"]
    if not seconds or not deploys:
        return None
    fleet.stream.event("bake.started", seconds=seconds, hosts=[deploy.host for deploy in deploys])
    until, reason = time.monotonic() + seconds, None
    while reason is None and (left := until - time.monotonic()) > 0:
        time.sleep(min(LOOK_EVERY, left))
        reason = next(filter(None, map(_spoiled, deploys)), None)
    for deploy in deploys:
        deploy.close()
    fleet.stream.event("bake.finished", ok=reason is None, reason=reason)
    return reason


def _spoiled(deploy: HostDeploy) -> str | None:
    try:
        facts = deploy.ask("observe")
    except DeployerError as error:
        deploy.close()
        return f"{deploy.host} cannot be looked at any more: {error.cause or error.title}"
    if not facts["instance"] or facts["crashes"]:
        return f"{deploy.host} does not keep running on {deploy.result.release}"
    if deploy.order.config.settings()["health"]["url"] and not facts["health"]["good"]:
        return f"{deploy.host} says {facts['health']['health']}"
    return None
