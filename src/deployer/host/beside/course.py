"""
The services beside an app in the course of a deploy: up before the app is touched, back where the deploy fails, down at its end.

Each is journalled before it is handed over, and its keeper has a promise of its own: whoever dies, the old one or the new one runs.
"""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any, Dict, List, Optional

from deployer.errors import DeployerError, FailedError, GateError
from deployer.host import log_tails, logs, program
from deployer.host.beside import turn
from deployer.host.beside.changes import KEEP, STOP
from deployer.host.beside.turn import Calm, opened, step
from deployer.host.deploy import Deploy, settings_of
from deployer.host.heed import Attentive
from deployer.host.instance import new_instance_id
from deployer.host.ready import NotReady
from deployer.host.say import say_why
from deployer.model import DrainOrder, Spec

SHOWN_LINES = 20

Change = Dict[str, Any]


def bring_up(deploy: Deploy) -> None:
    """
    Start what is new and replace what has changed, one after another in the order of the config, each ready before the next.

    Raises GateError when one does not become ready, or its program is not there; Aborted. `put_back` undoes what was done.
    """
    deploy.journal.common["release"] = deploy.request.release
    todo = [one for one in deploy.request.services if one["action"] != STOP]
    for one in todo:
        if one["action"] != KEEP:
            _require(deploy, one["name"])
    for one in todo:
        if one["action"] == KEEP:
            _keep(deploy, one)
        elif not deploy.journal.has(step(one["name"]), "ready"):
            _bring_up(deploy, one["name"])


def put_back(deploy: Deploy) -> List[str]:
    """
    Every service that this deploy has changed is what it was before, in reverse order; those that would not become ready.

    Whatever people ask meanwhile. Safe to call again; nothing where nothing was changed.
    """
    left = []
    for one in reversed(deploy.request.services):
        name = str(one["name"])
        begun = deploy.journal.data(step(name), "begun")
        if begun and not deploy.journal.has(step(name), "back"):
            if not _put_back(deploy, name, begun):
                left.append(name)
            deploy.journal.note(step(name), "back")
    return left


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
        try:
            program.require(own.paths, turn.wanted(own, name, "none").spec)
        except GateError as error:
            error.title = f"service {name} cannot be started: {error.title.rpartition(': ')[2]}"
            error.hint = f"correct [services.{name}], or install it on this host"
            raise


def _keep(deploy: Deploy, one: Change) -> None:
    with opened(deploy, one["name"]) as own:
        own.supervisor.status()  # a keeper that died is there again, and one of an older engine goes on as this one
    if not any(event["service"] == one["name"] for event in deploy.journal.told("service.kept")):
        deploy.journal.event("service.kept", service=one["name"], why=one["why"])


def _bring_up(deploy: Deploy, name: str) -> None:
    with opened(deploy, name) as own:
        begun = deploy.journal.data(step(name), "begun")
        if begun is None:
            begun = {"instance": new_instance_id(), **_before(own)}
            deploy.journal.note(step(name), "begun", **begun)
        part = turn.wanted(own, name, str(begun["instance"]))
        watched = Attentive(own, own.supervisor)
        try:
            order = _order(own, part.order, begun["runs"])
            _swap(own, name, part.spec, part.health, order, watched)
        except NotReady as error:
            raise _not_ready(own, name, part.spec, str(error)) from error
        deploy.journal.note(step(name), "ready")


def _before(own: Deploy) -> Dict[str, Any]:
    """What shall run now (`runs`), and what to come back to (`before`): nothing that never proved itself."""
    row = own.state.row("SELECT id, confirmed FROM instances WHERE id=?", own.state.meta("desired"))
    return {"runs": row["id"] if row else None, "before": row["id"] if row and row["confirmed"] else None}


def _swap(own: Deploy, name: str, spec: Spec, health: Dict[str, Any], order: DrainOrder, watched: Any) -> None:
    """*spec* runs, alone and proven. Raises NotReady, FailedError; Aborted where *watched* heeds what people ask."""
    turn.hand_over(own, name, spec, order, watched)
    proof = turn.prove(own, spec.id, health, watched)
    own.supervisor.confirm(spec.id)
    own.journal.event("service.started", service=name, pid=proof.pid, ready_s=proof.took_s, release=spec.release)


def _order(own: Deploy, today: DrainOrder, runs: Optional[str]) -> DrainOrder:
    """How to stop what runs: by the signal that it knows, within the ceiling of today, as a drain of the app."""
    spec = turn.on_record(own, runs)
    return changed(turn.order_of(spec), ceiling=today.ceiling) if spec is not None else today


def _not_ready(own: Deploy, name: str, spec: Spec, why: str) -> GateError:
    row = own.state.row("SELECT log_offset FROM instances WHERE id=?", spec.id)
    lines = logs.tail(own.paths.app_log, SHOWN_LINES, offset=int((row or {}).get("log_offset") or 0))
    tail = [f"  {own.journal.redact(line)[: log_tails.LONGEST_LINE]}" for line in lines]
    return GateError(
        f"service {name} did not become ready", cause="\n".join([why, *tail]),
        state="the app was not touched", hint=f"correct [services.{name}] or its files, then push again",
    )  # fmt: skip


# The way back --------------------------------------------------------------------------------------------------------


def _put_back(deploy: Deploy, name: str, begun: Dict[str, Any]) -> bool:
    """Whether the service *name* is what it was before."""
    with opened(deploy, name) as own:
        given = own.state.row("SELECT 1 FROM instances WHERE id=?", begun["instance"]) is not None
        if not given:
            return True  # the promise was never handed over: what ran before runs
        order, calm = _hurried(own, name), Calm(own)
        before = turn.on_record(own, begun["before"])
        if before is None:
            turn.hand_over(own, name, None, order, calm)
            return True
        spec = changed(before, id=_who_comes_back(deploy, name))
        try:
            _swap(own, name, spec, _health(deploy, before.release, name), order, calm)
            return True
        except NotReady as error:
            own.supervisor.confirm(spec.id)  # nothing better is there: its keeper goes on trying
            deploy.journal.event(
                "warning", text=f"service {name} of {before.release} did not become ready either: {error}"
            )
            return False
        except FailedError as error:
            say_why()
            deploy.journal.event("warning", text=f"{error}: {error.cause}")
            return False


def _who_comes_back(deploy: Deploy, name: str) -> str:
    asked = deploy.journal.data(step(name), "coming_back")
    if asked is None:
        asked = {"instance": new_instance_id()}
        deploy.journal.note(step(name), "coming_back", **asked)
    return str(asked["instance"])


def _hurried(own: Deploy, name: str) -> DrainOrder:
    """As a release that is taken back: it gets no full ceiling."""
    table = own.request.settings["services"][name]
    order = turn.wanted(own, name, "none").order
    return changed(order, ceiling=min(order.ceiling, float(table["drain"]["revert_ceiling"])))


def _health(deploy: Deploy, release: str, name: str) -> Dict[str, Any]:
    """The table of the service *name* as *release* was pushed with it; that of today where nobody knows."""
    kept = ((settings_of(deploy.state, release) or {}).get("services") or {}).get(name)
    table = kept or deploy.request.settings["services"][name]
    return {**table["health"], "notifies": bool(table.get("class"))}


def _end(deploy: Deploy, name: str) -> None:
    with opened(deploy, name) as own:
        spec = turn.on_record(own, own.state.meta("desired"))
        order = turn.order_of(spec) if spec is not None else DrainOrder()
        turn.hand_over(own, name, None, order, Calm(own))


def told(left: List[str]) -> Optional[str]:
    """What a person must know of the services *left* that did not come back; None where there are none."""
    if not left:
        return None
    names = ", ".join(left)
    return f"service {names} DID NOT COME BACK: its keeper goes on trying (`deployer logs --service {left[0]}`)"


def brought_back(deploy: Deploy) -> Optional[str]:
    """`put_back`, for a deploy that must end whatever comes of it; what a person must know, if anything."""
    try:
        return told(put_back(deploy))
    except (DeployerError, OSError) as error:
        say_why()
        return f"the services were not all put back: {error}"
