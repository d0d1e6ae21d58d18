"""`on_failure = "revert"`: the hosts that a rollout has changed go back to the release that they had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from deployer.errors import DeployerError, FailedError
from deployer.rollout.batches import batch_size
from deployer.rollout.events import Event, Stream
from deployer.rollout.fleet import Fleet
from deployer.rollout.hostdeploy import HostDeploy


def take_back(fleet: Fleet, changed: Sequence[HostDeploy], reason: str) -> None:
    """Roll every host of *changed* back, as many at once as in a batch; each then ends as reverted, or tells why not."""
    size = batch_size(fleet.policy.batch, len(fleet.deploys))
    for start in range(0, len(changed), size):
        several = list(changed[start : start + size])
        new = {deploy.host: deploy.result.release for deploy in several}
        for deploy in several:
            deploy.finished = None  # it goes on after all
        fleet.each(several, partial(_back, fleet, reason, new))


def _back(fleet: Fleet, reason: str, releases: dict[str, str | None], deploy: HostDeploy) -> None:
    new, old = releases[deploy.host], deploy.serving
    if old is None:
        title = f"{deploy.host} stays on {new}: nothing ran there before"
        deploy.serving = new
        return deploy.failed(FailedError(title, cause=reason, hint="stop it with `deployer stop`"), "done")
    deploy.event("revert.started", reason=reason, back=old, started=new)
    order = replace(fleet.order, kind="rollback", release=old, options=replace(fleet.order.options, detach=False))
    heard = Stream(f"{deploy.deploy}-revert", lambda event: _pass(deploy, event))
    rollback = fleet.join(HostDeploy(deploy.host, order, heard))
    try:
        rollback.open()
        rollback.hand_over()
        rollback.follow()
    except DeployerError as error:
        rollback.failed(error, "lost" if rollback.committed else "failed")
    finally:
        rollback.close()
    _end(deploy, rollback, new, old)


def _end(deploy: HostDeploy, rollback: HostDeploy, new: str | None, old: str) -> None:
    status = rollback.result.status
    back = status in ("done", "unchanged")
    deploy.event("revert.finished", release=old, ok=back)
    deploy.serving = old if back else rollback.result.release if rollback.committed else new
    error = DeployerError.from_json((rollback.finished or {}).get("error") or {})
    if back:
        deploy.ended("reverted", 1)
    elif rollback.committed:
        deploy.failed(error, status)
    else:
        deploy.failed(error, "done")  # it was not even begun: the new release serves on


def _pass(deploy: HostDeploy, event: Event) -> None:
    """Its steps are the host's; its end is ours to tell."""
    if event["event"] != "host.finished":
        deploy.stream.passed(event)
