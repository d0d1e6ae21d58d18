"""
Overlap, step by step: the new instance serves beside the old one, proves itself, takes over; then the old one is asked to stop.

Until `retire` the old release is what shall run, whoever dies. After it nothing is left to do but to wait for the drains, which
needs no lock: the next deploy may begin, and several generations may drain at once.
"""

from __future__ import annotations

import json
from dataclasses import replace as changed
from typing import Any, Dict, List, Optional

from deployer.errors import DeployerError, FailedError
from deployer.host import drain_story, log_tails, ports, program, revert, traffic
from deployer.host.deploy import Deploy
from deployer.host.disk import disk_errors
from deployer.host.drain import CRASH
from deployer.host.handover import follow, watch_of
from deployer.host.heed import Attentive, aborted_by
from deployer.host.hooks import LastCall
from deployer.host.lock import DeployLock
from deployer.host.proving import prove
from deployer.host.ready import NotReady
from deployer.host.say import say
from deployer.host.swap import leave_unit, proven
from deployer.model import DrainOrder, Spec

LOOK_EVERY = 1.0
"""Seconds between two looks at what is waited for, if nobody says that it changed."""
TAKEN_BACK_WITHIN = 30.0
"""Seconds beyond its ceiling until a release that was taken back must have gone."""


class Launched:
    """One launched instance as something that can be waited for: the wish is for another one still."""

    def __init__(self, deploy: Deploy, instance: str) -> None:
        self._supervisor = deploy.supervisor
        self._instance = instance

    def status(self) -> Dict[str, Any]:
        return {**self._supervisor.status(), "desired": self._supervisor.record(self._instance)}

    def wait(self, deadline: float) -> None:
        self._supervisor.wait(deadline)


def launch(deploy: Deploy) -> None:
    """Start the new instance beside the old one. Raises GateError or NotReady; the old one has not noticed."""
    sign_in(
        deploy
    )  # already here, where a disk that refuses costs nothing: without it nobody could wait for the drains
    new = str(deploy.request.instance)
    program.require(deploy.paths, deploy.spec(new))
    _await_room(deploy)
    spec = changed(deploy.spec(new), port=_free_port(deploy))
    deploy.supervisor.launch(deploy.request.deploy, spec)
    started = _await_start(deploy, new)
    if not drain_story.told(deploy, "start.finished", started["pid"]):
        deploy.journal.event("start.finished", pid=started["pid"], release=deploy.request.release)


def ready(deploy: Deploy) -> None:
    """Wait for the proof that the new instance itself serves. Raises NotReady."""
    instance = str(deploy.request.instance)
    proof = prove(deploy, instance, deploy.request.settings, Launched(deploy, instance))
    deploy.journal.event("ready", probes=proof.probes, took_s=proof.took_s, pid=proof.pid)


def retire(deploy: Deploy) -> None:
    """The new instance is the service, and the old one has been asked to stop. Raises NotReady when the new one has gone."""
    request = deploy.request
    olds = [
        one for one in deploy.supervisor.status()["instances"] if one["id"] != request.instance and not one["drain"]
    ]
    leave_unit(deploy)
    try:
        deploy.supervisor.retire(request.deploy, request.who, str(request.instance), request.drain_order)
    except FailedError as error:
        raise NotReady("it proved itself, and then it exited", exited=True) from error
    if olds:
        deploy.gap_ms = 0  # it lived when the new one had proven itself
        deploy.journal.note("retire", "gap", gap_ms=0)
    proven(deploy)


def sign_in(deploy: Deploy) -> None:
    """Be the one runner that waits for the drains of *deploy*: before the record says that nobody needs the deploy lock for it."""
    if not deploy.alone:
        path = deploy.paths.drain_lock(deploy.request.deploy)
        with disk_errors("take the lock of its drains", str(path)):
            DeployLock(path).acquire({"deploy": deploy.request.deploy}, 0)
        deploy.alone = True


def drain(deploy: Deploy) -> None:
    """Let the next deploy begin, and tell how the old instances end."""
    deploy.let_go()
    olds = _retired(deploy)
    names = [str(old["id"]) for old in olds]
    watch = watch_of(deploy, olds)
    drain_story.recall(deploy, names, watch)
    try:
        for old in olds:
            drain_story.begun(deploy, old, deploy.request.drain_order)
        follow(deploy, names, None, watch, LastCall(deploy))
    finally:
        watch.stop()
        drain_story.keep(deploy, names, watch)


def retired(deploy: Deploy) -> bool:
    """Whether the new instance is, or was, what shall run: there is no way back from there but a rollback."""
    row = deploy.state.row("SELECT confirmed FROM instances WHERE id=?", deploy.request.instance)
    return row is not None and bool(row["confirmed"])


def await_drained(deploy: Deploy) -> None:
    """Until no older generation drains: what may not run beside others would wait for them while nothing serves."""
    keeper, told = Attentive(deploy, deploy.supervisor), False
    while True:
        draining = [one for one in deploy.supervisor.status()["instances"] if one["drain"]]
        if not draining:
            return
        if not told:
            told = True
            pids = ", ".join(str(one["pid"]) for one in draining)
            why = "it may need a service that goes" if deploy.request.overlaps else "this release runs alone"
            text = f"pid {pids} must finish first: {why}"
            deploy.journal.event("room.waiting", draining=len(draining), most=0, text=text)
        keeper.wait(deploy.clock.now() + LOOK_EVERY)


def dismiss(deploy: Deploy) -> None:
    """Let the new instance go, as far as the keeper can be asked."""
    request = deploy.request
    try:
        deploy.supervisor.dismiss(request.deploy, request.who, str(request.instance), _order_of_revert(deploy))
    except DeployerError as error:
        say(f"{request.instance} was not dismissed: {error}")


def _order_of_revert(deploy: Deploy) -> DrainOrder:
    order = deploy.request.drain_order
    return changed(order, ceiling=min(order.ceiling, float(deploy.request.drain["revert_ceiling"])))


def take_back(deploy: Deploy, reason: str) -> bool:
    """The new instance goes; True where the old one serves, which has never noticed anything."""
    request, failed = deploy.request, str(deploy.request.instance)
    row = deploy.state.row("SELECT pid FROM instances WHERE id=?", failed) or {}
    if not deploy.journal.has("revert", "begin"):
        deploy.journal.event(
            "revert.started", reason=reason, log_tail=log_tails.since_start(deploy.paths, deploy.state, failed, revert.SHOWN_LINES),
            aborted=aborted_by(deploy) is not None, started=row.get("pid") is not None,
            back=((request.previous or {}).get("spec") or {}).get("release"),
        )  # fmt: skip
    revert.flip_back(deploy)
    deploy.journal.begin("revert", reason=reason)
    if request.release and request.kind in ("push", "rollback"):
        deploy.state.execute("UPDATE releases SET state='failed' WHERE id=? AND state!='good'", request.release)
    traffic.back(deploy)
    order = _order_of_revert(deploy)
    deploy.supervisor.dismiss(request.deploy, request.who, failed, order)
    _await_gone(deploy, failed, order.ceiling + TAKEN_BACK_WITHIN)
    serving = _serving(deploy)
    deploy.gap_ms = 0 if serving else None  # as it has been all along
    release = serving["release"] if serving else None
    deploy.journal.event("revert.finished", release=release, ok=serving is not None, gap_ms=deploy.gap_ms)
    deploy.journal.done("revert", ok=serving is not None)
    return serving is not None


# Room ----------------------------------------------------------------------------------------------------------------


def _await_room(deploy: Deploy) -> None:
    """Until fewer generations drain than may, and a port is free: the oldest has until its own ceiling."""
    told = False
    keeper = Attentive(deploy, deploy.supervisor)
    while True:
        draining = [one for one in deploy.supervisor.status()["instances"] if one["drain"]]
        most = int(deploy.request.settings["run"]["max_draining"])
        if (
            not draining
            or (len(draining) < most and _free_port(deploy) is not None)
            or not _waits(deploy, draining, most)
        ):
            return
        if not told:
            told = True
            pids = ", ".join(str(one["pid"]) for one in draining)
            deploy.journal.event(
                "room.waiting", draining=len(draining), most=most, text=f"pid {pids} must finish first"
            )
        keeper.wait(deploy.clock.now() + LOOK_EVERY)


def _waits(deploy: Deploy, draining: List[Dict[str, Any]], most: int) -> bool:
    return len(draining) >= most or (bool(deploy.request.settings["run"]["ports"]) and _free_port(deploy) is None)


def _free_port(deploy: Deploy) -> Optional[int]:
    """The first of `run.ports` that no instance has and nobody listens on; None where there is none."""
    used = {one["port"] for one in deploy.supervisor.status()["instances"]}
    for port in deploy.request.settings["run"]["ports"]:
        if port not in used and not ports.listening(port):
            return int(port)
    return None


# Waiting -------------------------------------------------------------------------------------------------------------


def _await_start(deploy: Deploy, instance: str) -> Dict[str, Any]:
    launched, deadline = (
        Launched(deploy, instance),
        deploy.clock.now() + float(deploy.request.settings["health"]["ready_within"]),
    )
    keeper = Attentive(deploy, launched)
    while True:
        late = deploy.clock.now() >= deadline  # before the look: whoever was held up looks once more
        record = deploy.supervisor.record(instance) or {}
        if record.get("error"):
            raise NotReady(f"it could not be started: {record['error']}", exited=True)
        if record.get("pid") and record.get("state") != "promised":
            return record
        if late:
            raise NotReady("the keeper did not start it in time")
        keeper.wait(min(deadline, deploy.clock.now() + LOOK_EVERY))


def _await_gone(deploy: Deploy, instance: str, within: float) -> None:
    deadline = deploy.clock.now() + within
    keeper = Attentive(deploy, deploy.supervisor)
    while any(one["id"] == instance for one in deploy.supervisor.status()["instances"]):
        if deploy.clock.now() >= deadline:
            raise DeployerError(f"instance {instance} does not go", state="the old release serves")
        keeper.wait(min(deadline, deploy.clock.now() + LOOK_EVERY))


def _serving(deploy: Deploy) -> Optional[Dict[str, Any]]:
    """What shall run, and runs; one that the keeper is about to start again gets the time that takes."""
    deadline = deploy.clock.now() + float(deploy.old_settings["health"]["ready_within"])
    keeper = Attentive(deploy, deploy.supervisor)
    while True:
        status = deploy.supervisor.status()
        desired = status["desired"]
        found = next((one for one in status["instances"] if desired and one["id"] == desired["id"]), None)
        if found is not None or desired is None or deploy.clock.now() >= deadline:
            return dict(found) if found else None
        keeper.wait(min(deadline, deploy.clock.now() + LOOK_EVERY))


# The drain, without the lock -----------------------------------------------------------------------------------------


def _retired(deploy: Deploy) -> List[Dict[str, Any]]:
    """What this deploy asked to stop and nobody has told the end of yet."""
    told = {verdict["instance"] for verdict in deploy.verdicts}
    alive = {one["id"]: one for one in deploy.supervisor.status()["instances"]}
    rows = deploy.state.rows(
        "SELECT i.id, i.pid, i.spec FROM drains d JOIN instances i ON i.id=d.instance WHERE d.deploy=? AND d.who IS NOT ?",
        deploy.request.deploy,
        CRASH,  # what the new one left behind when it crashed is nobody's loss
    )
    known = [row for row in rows if row["id"] not in told]
    return [
        alive.get(row["id"]) or {"id": row["id"], "pid": row["pid"], "command": _command(row["spec"])} for row in known
    ]


def _command(spec: str) -> str:
    return " ".join(Spec.from_json(json.loads(spec)).argv)
