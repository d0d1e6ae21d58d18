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
        several = {deploy.host: deploy for deploy in changed[start : start + size]}
        ended = {host: deploy.finished for host, deploy in several.items()}
        new = {host: deploy.result.release for host, deploy in several.items()}
        for deploy in several.values():
            deploy.finished, deploy.committed = None, False  # it goes on after all
        try:
            fleet.each(several.values(), partial(_back, fleet, reason, new), at_once=len(several))
        finally:
            for host, deploy in several.items():
                if (
                    deploy.finished is None and not deploy.committed
                ):  # a person let go before it was begun: it stays as it was
                    deploy.finished, deploy.committed = ended[host], True


def _back(fleet: Fleet, reason: str, releases: dict[str, str | None], deploy: HostDeploy) -> None:
    new, old = releases[deploy.host], deploy.serving
    if old is None:
        title = f"{deploy.host} stays on {new}: nothing ran there before"
        deploy.serving = new
        return deploy.failed(FailedError(title, cause=reason, hint="stop it with `deployer stop`"), "done")
    order = replace(fleet.order, kind="rollback", release=old, options=replace(fleet.order.options, detach=False))
    heard = Stream(f"{deploy.deploy}-revert", lambda event: _pass(deploy, event))
    rollback = fleet.join(HostDeploy(deploy.host, order, heard))
    try:
        rollback.claim()
        _require_ours(rollback, new)
        deploy.event("revert.started", reason=reason, back=old, started=new)
        rollback.hand_over()
        deploy.committed = True
        rollback.follow()
    except DeployerError as error:
        if fleet.order.given_up.is_set():
            return
        rollback.failed(error, "lost" if rollback.committed else "failed")
    finally:
        rollback.close()
    _end(deploy, rollback, new, old)


def _require_ours(rollback: HostDeploy, new: str | None) -> None:
    """What this rollout has put there still serves. Raises FailedError where somebody else has pushed meanwhile."""
    if rollback.serving != new:
        raise FailedError(
            f"{rollback.host} was not taken back: it does not serve what this push brought any more",
            cause=f"it serves {rollback.serving}, and this push brought {new}",
            state="it stays as it is", hint="somebody else has changed it: see `deployer history`",
        )  # fmt: skip


def _end(deploy: HostDeploy, rollback: HostDeploy, new: str | None, old: str) -> None:
    status = rollback.result.status
    back = status in ("done", "unchanged")
    if rollback.committed:
        deploy.event("revert.finished", release=old, ok=back)
    deploy.serving = old if back else rollback.result.release if rollback.committed else rollback.serving or new
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
