"""The way back: the old release serves again, because the new one is not ready or because somebody aborts."""

from __future__ import annotations

import json
from dataclasses import replace as changed
from typing import Optional

from deployer.errors import DeployerError
from deployer.host import log_tails, traffic
from deployer.host.deploy import Deploy, spec_of
from deployer.host.handover import hand_over
from deployer.host.heed import aborted_by
from deployer.host.hooks import LastCall
from deployer.host.instance import new_instance_id
from deployer.host.proving import prove
from deployer.host.ready import NotReady
from deployer.model import DrainOrder, Spec

SHOWN_LINES = 20
"""Lines of its output that tell why a release failed."""


def revert(deploy: Deploy, reason: str) -> bool:
    """Bring the old release back; True once it has proven itself, False when it would not start, or nothing ran before."""
    failed = deploy.request.instance
    tail = log_tails.since_start(deploy.paths, deploy.state, failed, SHOWN_LINES)
    back = deploy.journal.data("revert", "begin") or {}
    # A release that was never started leaves the old one draining, which has its last call; one that was has nothing to save.
    started = deploy.state.row("SELECT 1 FROM instances WHERE id=? AND pid IS NOT NULL", failed) is not None
    if not back:
        deploy.journal.event(
            "revert.started", reason=reason, log_tail=tail, aborted=aborted_by(deploy) is not None, started=started,
            back=((deploy.request.previous or {}).get("spec") or {}).get("release"),
        )  # fmt: skip
    flip_back(deploy)
    previous = deploy.request.previous
    instance = _who_comes_back(deploy, back.get("instance"))
    deploy.journal.begin("revert", instance=instance, reason=reason)
    if deploy.request.release and deploy.request.kind in ("push", "rollback"):
        deploy.state.execute("UPDATE releases SET state='failed' WHERE id=? AND state!='good'", deploy.request.release)
    spec = _previous_spec(deploy, instance) if previous else None
    hand_over(deploy, spec, _order_of_revert(deploy), None if started else LastCall(deploy))
    ok = spec is not None and _came_back(deploy, spec)
    if ok:
        traffic.back(deploy)
    deploy.journal.event("revert.finished", release=spec.release if spec else None, ok=ok, gap_ms=deploy.gap_ms)
    deploy.journal.done("revert", ok=ok)
    return ok


def flip_back(deploy: Deploy) -> None:
    """`current` is the release of before the push again; a warning where the disk refuses: that the old one serves matters more."""
    try:
        _flip_back(deploy)
    except (DeployerError, OSError) as error:
        deploy.journal.event("warning", text=f"`current` still points at the new release: {error}")


def _flip_back(deploy: Deploy) -> None:
    back = deploy.request.previous_release
    if deploy.request.kind not in ("push", "rollback"):
        return
    if back and deploy.releases.current() == back:
        return
    if back and deploy.releases.there(back):
        deploy.releases.flip(back)
    elif deploy.releases.current() == deploy.request.release:
        deploy.releases.unset()


def _who_comes_back(deploy: Deploy, asked: Optional[str]) -> str:
    """
    The instance of the old release that shall run: *asked* by a runner that died, or whoever has taken its place since.

    One that was restarted meanwhile is not to be drained for a dead one; a start that a reboot undid proves nothing.
    """
    row = deploy.state.row("SELECT * FROM instances WHERE id=?", asked) if asked else None
    if asked is None or row is None:
        return asked or new_instance_id()
    desired = deploy.supervisor.status()["desired"]
    if desired and desired["id"] != asked and desired["release"] == row["release"]:
        return str(desired["id"])
    return asked if row["boot"] in (None, deploy.processes.boot) else new_instance_id()


def _order_of_revert(deploy: Deploy) -> DrainOrder:
    order = deploy.request.drain_order
    if deploy.state.row("SELECT 1 FROM instances WHERE id=?", deploy.request.instance) is None:
        return order  # the new one was never promised: what drains is the old one, with work in progress
    return changed(order, ceiling=min(order.ceiling, float(deploy.request.drain["revert_ceiling"])))


def _came_back(deploy: Deploy, spec: Spec) -> bool:
    try:
        prove(deploy, _restarted(deploy, spec), deploy.old_settings)
        return True
    except NotReady as error:
        deploy.journal.event("warning", text=f"the old release did not become ready either: {error}")
        return False
    finally:
        # Confirmed whatever the proof said: the supervisor shall go on trying, nothing better is there.
        deploy.supervisor.confirm(spec.id)


def _restarted(deploy: Deploy, spec: Spec) -> str:
    """The instance of *spec*, or the one that the keeper started in its place after a crash or a reboot."""
    desired = deploy.supervisor.status()["desired"]
    return str(desired["id"]) if desired and desired["release"] == spec.release else spec.id


def _previous_spec(deploy: Deploy, instance: str) -> Spec:
    previous = deploy.request.previous or {}
    settings = previous.get("settings")
    if settings is None:  # adopted: started again as it was found
        row = deploy.state.row("SELECT spec FROM instances WHERE id=?", previous["spec"]["id"])
        assert row is not None
        return Spec.from_json({**json.loads(row["spec"]), "id": instance})
    # The last resort opens its sockets by itself: nobody may come to tell it to.
    spec = spec_of(deploy.paths, previous["spec"]["release"], settings, instance)
    return changed(spec, gate=False, owner=previous["spec"].get("owner"))
