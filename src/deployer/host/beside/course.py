"""
The services beside an app in the course of a deploy: up before the app is touched, down at its end. way_back.py undoes it.

Each is journalled before it is handed over, and its keeper has a promise of its own: whoever dies, the old one or the new one runs.
"""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any, Dict, Optional

from deployer.errors import FailedError, GateError
from deployer.host import log_tails, program
from deployer.host.batch.parts import Part
from deployer.host.beside import turn
from deployer.host.beside.changes import KEEP, STOP
from deployer.host.beside.turn import opened, step
from deployer.host.deploy import Deploy
from deployer.host.heed import Attentive, Calm
from deployer.host.instance import desired, new_instance_id, spec_of
from deployer.host.ready import NotReady
from deployer.host.supervisors.base import Watched
from deployer.model import DrainOrder, Spec

Change = Dict[str, Any]


def bring_up(deploy: Deploy) -> None:
    """
    Start what is new and replace what has changed, one after another in the order of the config, each ready before the next.

    Raises GateError when one does not become ready, or its program is not there; Aborted. What was done by then, `way_back` undoes.
    """
    deploy.journal.common["release"] = deploy.request.release
    todo = [one for one in deploy.request.services if one["action"] != STOP]
    for one in todo:
        if one["action"] != KEEP:
            _require(deploy, one["name"])
    for one in todo:
        if one["action"] == KEEP:
            _keep(deploy, one)
        else:
            _bring_up(deploy, one["name"])


def end(deploy: Deploy) -> None:
    """Stop what nobody wants any more, in reverse order. One that does not go is told, and keeps no other from being stopped."""
    for one in reversed(deploy.request.services):
        if one["action"] == STOP and not deploy.journal.has(step(one["name"]), "ended"):
            try:
                _end(deploy, str(one["name"]))
            except FailedError as error:
                deploy.journal.event("warning", text=f"{error}: {error.cause}" if error.cause else str(error))
            deploy.journal.note(step(one["name"]), "ended")


def _require(deploy: Deploy, name: str) -> None:
    with opened(deploy, name) as own:
        spec = turn.wanted(own, name, "none").spec
        program.require(own.paths, spec, f"service {name}", f"services.{name}")


def _keep(deploy: Deploy, one: Change) -> None:
    with opened(deploy, one["name"]) as own:
        own.supervisor.status()  # a keeper that died is there again, and one of an older engine goes on as this one
    if not any(event["service"] == one["name"] for event in deploy.journal.told("service.kept")):
        deploy.journal.event("service.kept", service=one["name"], why=one["why"])


def _bring_up(deploy: Deploy, name: str) -> None:
    with opened(deploy, name) as own:
        # A runner that dies from here on is followed by one that goes back: nobody begins a second time.
        begun = {"instance": new_instance_id(), **_before(own)}
        deploy.journal.note(step(name), "begun", **begun)
        part = turn.wanted(own, name, str(begun["instance"]))
        watched = Attentive(own, own.supervisor)
        try:
            bring(own, changed(part, order=_order(own, part.order, begun["runs"])), watched)
        except NotReady as error:
            raise _not_ready(own, name, part.spec, str(error)) from error
        deploy.journal.note(step(name), "ready")


def _before(own: Deploy) -> Dict[str, Any]:
    """What shall run now (`runs`), and what to come back to (`before`): nothing that never proved itself."""
    row = desired(own.state)
    return {"runs": row["id"] if row else None, "before": row["id"] if row and row["confirmed"] else None}


def bring(own: Deploy, part: Part, watched: Watched, back: bool = False) -> None:
    """
    *part* runs, alone and proven; `part.order` is how what runs now is stopped.

    Raises NotReady, FailedError; Aborted where *watched* heeds what people ask.
    """
    turn.hand_over(own, part.name, part.spec, part.order, watched)
    proof = turn.prove(own, part, watched)
    own.supervisor.confirm(part.spec.id)
    told = {"back": True} if back else {}
    own.journal.event(
        "service.started", service=part.name, pid=proof.pid, ready_s=proof.took_s, release=part.spec.release, **told
    )


def _order(own: Deploy, today: DrainOrder, runs: Optional[str]) -> DrainOrder:
    """How to stop what runs: by the signal that it knows, within the ceiling of today, as a drain of the app."""
    spec = turn.on_record(own, runs)
    return changed(turn.order_of(spec), ceiling=today.ceiling) if spec is not None else today


def _not_ready(own: Deploy, name: str, spec: Spec, why: str) -> GateError:
    return GateError(
        f"service {name} did not become ready", cause=log_tails.below(own, spec.id, own.paths.app_log, why),
        state="the app was not touched, and services that were changed are put back",
        hint=f"correct [services.{name}] or its files, then push again",
    )  # fmt: skip


def _end(deploy: Deploy, name: str) -> None:
    with opened(deploy, name) as own:
        row = desired(own.state)
        order = turn.order_of(spec_of(row)) if row is not None else DrainOrder()
        turn.hand_over(own, name, None, order, Calm(own))
