"""
The way back for services beside an app: each that a deploy has changed is what it was before, whoever died on the way there.

Journalled like the way there. A service whose promise its keeper never had has not changed.
"""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any, Dict, List, Optional

from deployer.errors import DeployerError, FailedError
from deployer.host.batch import parts
from deployer.host.batch.parts import Part
from deployer.host.beside import turn
from deployer.host.beside.course import bring
from deployer.host.beside.turn import opened, step
from deployer.host.deploy import Deploy, settings_of
from deployer.host.heed import Calm
from deployer.host.instance import new_instance_id
from deployer.host.ready import NotReady
from deployer.host.say import say_why
from deployer.model import DrainOrder, Spec


def brought_back(deploy: Deploy) -> Optional[str]:
    """`put_back`, for a deploy that must end whatever comes of it; what a person must know, if anything."""
    try:
        return _told(put_back(deploy))
    except (DeployerError, OSError) as error:
        say_why()
        return f"the services were not all put back: {error}"


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


def _put_back(deploy: Deploy, name: str, begun: Dict[str, Any]) -> bool:
    """Whether the service *name* is what it was before."""
    with opened(deploy, name) as own:
        own.supervisor.status()  # what a dead runner asked of the keeper is done once this is answered
        given = own.state.row("SELECT 1 FROM instances WHERE id=?", begun["instance"]) is not None
        if not given:
            return True  # the promise was never handed over: what ran before runs
        order, calm = _hurried(own, name), Calm(own)
        before = turn.on_record(own, begun["before"])
        if before is None:
            turn.hand_over(own, name, None, order, calm)
            return True
        part = _as_it_was(deploy, own, name, before)
        try:
            bring(own, changed(part, order=order), calm, back=True)
            return True
        except NotReady as error:
            own.supervisor.confirm(part.spec.id)  # nothing better is there: its keeper goes on trying
            deploy.journal.event(
                "warning", text=f"service {name} of {before.release} did not become ready either: {error}"
            )
            return False
        except FailedError as error:
            say_why()
            deploy.journal.event("warning", text=f"{error}: {error.cause}")
            return False


def _as_it_was(deploy: Deploy, own: Deploy, name: str, before: Spec) -> Part:
    instance = _who_comes_back(deploy, name)
    spec = parts.reporting_to(changed(before, id=instance), parts.report_of(own.paths, instance))
    health = _health(deploy, before.release, name)
    return Part(name, {}, health, turn.order_of(before), spec, parts.report_in(spec))


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


def _told(left: List[str]) -> Optional[str]:
    """What a person must know of the services *left* that did not come back; None where there are none."""
    if not left:
        return None
    names = ", ".join(left)
    return f"service {names} DID NOT COME BACK: its keeper goes on trying (`deployer logs --service {left[0]}`)"
