"""Hand the one dangerous promise to the supervisor, and follow it: the old instances drain, then the new one is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional

from deployer.errors import PreflightError
from deployer.host import drain_story, observe
from deployer.host.deploy import Deploy
from deployer.host.heed import Attentive
from deployer.host.hooks import LastCall
from deployer.host.watch import Watch
from deployer.model import DrainOrder, Spec

PROGRESS_EVERY = 1.0
STUCK_AFTER = 10.0
"""Seconds for which a keeper may be unable to do what is due, because the disk refuses to have it written down."""


def handed_over(deploy: Deploy) -> bool:
    """Whether the supervisor has the promise: the one thing that must be gone on with, or taken back, and not forgotten."""
    if not deploy.journal.has("replace", "begin") and not deploy.journal.has("launch", "begin"):
        return False
    if deploy.request.kind == "stop":
        return True
    return deploy.state.row("SELECT 1 FROM instances WHERE id=?", deploy.request.instance) is not None


def hand_over(deploy: Deploy, new: Optional[Spec], order: DrainOrder, last_call: Optional[LastCall]) -> None:
    olds = _to_drain(deploy, new)
    watch = watch_of(deploy, olds)
    names = [str(old["id"]) for old in olds]
    drain_story.recall(deploy, names, watch)
    try:
        for old in olds:
            drain_story.begun(deploy, old, order)
        if deploy.gap_from is None and olds and not _stopping_already(deploy, olds):
            deploy.gap_from = deploy.clock.now()
        deploy.supervisor.replace(deploy.request.deploy, deploy.request.who, new, order)
        follow(deploy, [old["id"] for old in olds], new, watch, last_call)
    finally:
        watch.stop()
        drain_story.keep(deploy, names, watch)
    # A runner that took over in the middle of a drain knows when the service stopped only if it saw the old process serve.
    if watch.last_good_at is not None and any(old.get("processes") for old in olds):
        deploy.gap_from = max(deploy.gap_from or watch.last_good_at, watch.last_good_at)


def follow(deploy: Deploy, olds: List[str], new: Optional[Spec], watch: Watch, last_call: Optional[LastCall]) -> None:
    """Until the drains of *olds* have ended and *new*, if any, has been started; their story is told meanwhile."""
    waiting = list(olds)
    keeper = Attentive(deploy, deploy.supervisor, last_call)
    well_at = deploy.clock.now()
    progress_at = well_at + PROGRESS_EVERY
    while True:
        status = deploy.supervisor.status()
        well_at = _require_able(deploy, status, well_at)
        running = {one["id"] for one in status["instances"]}
        waiting = [old for old in waiting if not drain_story.ended(deploy, old, watch, old in running)]
        if last_call is not None and not waiting:
            last_call.end()
        desired = status["desired"]
        started = new is None or desired is None or desired["id"] != new.id or desired["state"] != "promised"
        if not waiting and started:
            if (
                new is not None
                and desired
                and desired["pid"]
                and not drain_story.told(deploy, "start.finished", desired["pid"])
            ):
                deploy.journal.event("start.finished", pid=desired["pid"], release=new.release)
            return
        draining = next((one for one in status["instances"] if one["drain"] and one["id"] in waiting), None)
        if deploy.clock.now() >= progress_at:
            progress_at = deploy.clock.now() + PROGRESS_EVERY
            if draining:
                drain_story.progress(deploy, draining, watch)
                drain_story.keep(deploy, olds, watch)
        keeper.wait(min(progress_at, _last_call(deploy, draining, last_call)))


def _require_able(deploy: Deploy, status: Dict[str, Any], well_at: float) -> float:
    """When the keeper was last able to do what is due. Raises PreflightError once that is long ago."""
    now = deploy.clock.now()
    if not status.get("trouble"):
        return now
    if now - well_at > STUCK_AFTER:
        raise PreflightError("the keeper cannot go on", cause=status["trouble"])
    return well_at


def _last_call(deploy: Deploy, draining: Optional[Dict[str, Any]], last_call: Optional[LastCall]) -> float:
    """Make the last call if it is due; when to look again (monotonic seconds)."""
    if last_call is None or draining is None:
        return float("inf")
    last_call.look(draining)
    due = last_call.due_in(draining)
    return float("inf") if due is None else deploy.clock.now() + due


def _stopping_already(deploy: Deploy, olds: List[Dict[str, Any]]) -> bool:
    ordered = [deploy.state.row("SELECT 1 FROM drains WHERE instance=?", old["id"]) for old in olds]
    return any(ordered) or deploy.journal.has("revert", "begin")


def _to_drain(deploy: Deploy, new: Optional[Spec]) -> List[Dict[str, Any]]:
    olds = _alive(deploy, except_for=new.id if new else None)
    if new is None or deploy.state.row("SELECT 1 FROM instances WHERE id=?", new.id) is None:
        return olds
    # The promise was given before: what runs beside and is not drained is what the keeper restarted since, *new* itself.
    return [old for old in olds if deploy.state.row("SELECT 1 FROM drains WHERE instance=?", old["id"])]


def _alive(deploy: Deploy, except_for: Optional[str]) -> List[Dict[str, Any]]:
    # Also the ones whose drain ended while nobody looked: a resumed deploy must still tell their verdict.
    told = {verdict["instance"] for verdict in deploy.verdicts}
    running = [one for one in deploy.supervisor.status()["instances"] if one["id"] != except_for]
    ended = deploy.state.rows(
        "SELECT i.id, i.pid, i.spec FROM drains d JOIN instances i ON i.id=d.instance WHERE d.deploy=? AND d.verdict IS NOT NULL",
        deploy.request.deploy,
    )
    gone = [{"id": row["id"], "pid": row["pid"], "command": " ".join(json.loads(row["spec"])["argv"])} for row in ended]
    return [one for one in running + gone if one["id"] not in told and one["id"] != except_for]


def watch_of(deploy: Deploy, olds: List[Dict[str, Any]]) -> Watch:
    """Whom to ask how the work of *olds* goes: the old one where it alone answers, or where nobody else does."""
    settings = deploy.old_settings
    table, private = settings["health"], _private(deploy, olds)
    url = observe.filled_url(settings, olds[0].get("port")) if olds and (table["url"] or private) else None
    if deploy.request.overlaps and private is None and not (olds and olds[0].get("port")):
        url = None  # on a shared socket the new one answers
    new = deploy.request.release
    successor = None if any(old.get("release") == new for old in olds) else new
    return Watch(url, table["timeout"], table["busy"], deploy.clock, private, successor)


def _private(deploy: Deploy, olds: List[Dict[str, Any]]) -> Optional[Path]:
    paths = [deploy.paths.health_socket(str(old["id"])) for old in olds if deploy.old_settings["health"].get("private")]
    return next((path for path in paths if path.exists()), None)
