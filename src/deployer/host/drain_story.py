"""The drain's story, told to who listens: begun, under way, how it ended and what was lost. Each of it once, over every resume."""

from __future__ import annotations

import json
import signal
from typing import Any, Dict, List, Optional

from deployer.errors import DeployerError
from deployer.host import drain_history
from deployer.host.deploy import Deploy
from deployer.host.say import say
from deployer.host.watch import Watch
from deployer.model import DrainOrder, Verdict


def begun(deploy: Deploy, old: Dict[str, Any], order: DrainOrder) -> None:
    if told(deploy, "drain.started", old["pid"]):
        return
    row = deploy.state.row("SELECT ceiling FROM drains WHERE instance=?", old["id"])
    ceiling = row["ceiling"] if row else order.ceiling
    known = None if deploy.journal.has("revert", "begin") else drain_history.past(deploy.state)
    deploy.journal.event(
        "drain.started", pid=old["pid"], ceiling_s=ceiling, command=old["command"], signal=order.signal,
        expected=drain_history.expected(known),
    )  # fmt: skip
    if not deploy.journal.has("revert", "begin"):
        _warn_of_the_deaf(deploy, old, order)
        _warn_of_the_ceiling(deploy, drain_history.warning(known, ceiling))


def ended(deploy: Deploy, old: str, watch: Watch, running: bool) -> bool:
    row = deploy.state.row("SELECT verdict FROM drains WHERE instance=?", old)
    if row is not None and row["verdict"] is not None:
        verdict = json.loads(row["verdict"])
    elif row is None and not running:
        verdict = _by_itself(deploy, old)
    else:
        return False
    died = (verdict["exit_code"] or 0) < 0
    verdict["lost"] = (
        watch.lost() if verdict["verdict"] == "killed" or (verdict["verdict"] == "exited" and died) else []
    )
    verdict["instance"] = old
    verdict["tasks"] = watch.worked()
    verdict["known"] = watch.knows  # whether "nothing lost" means anything
    verdict["ended_by"] = _ended_by(deploy, old)
    deploy.verdicts.append(verdict)
    deploy.lost += verdict["lost"]
    pid = (deploy.state.row("SELECT pid FROM instances WHERE id=?", old) or {}).get("pid")
    deploy.journal.event("drain.finished", pid=pid, **verdict)
    return True


def progress(deploy: Deploy, one: Dict[str, Any], watch: Watch) -> None:
    waited, left = one["drain"]["waited_s"], one["drain"]["left_s"]
    deploy.journal.progress(
        "drain.progress", pid=one["pid"], elapsed_s=round(waited, 1), ceiling_s=round(waited + left, 1),
        health=watch.answer.health, busy=watch.answer.busy, tasks=watch.answer.tasks, processes=one["processes"],
        heard=watch.heard(), status=one["status"],
    )  # fmt: skip


def recall(deploy: Deploy, olds: List[str], watch: Watch) -> None:
    """Let *watch* know what an earlier one saw of the same drain: before an abort, or before its runner died."""
    seen = deploy.journal.data("drain", "seen") or {}
    if set(seen.get("instances") or []) & set(olds):
        watch.recall(seen)


def keep(deploy: Deploy, olds: List[str], watch: Watch) -> None:
    """Write down what *watch* has seen, for `recall`; nothing when that is on record already. Never raises."""
    seen = {**watch.memory(), "instances": olds}
    try:
        if watch.knows and _without_ages(deploy.journal.data("drain", "seen")) != _without_ages(seen):
            deploy.journal.note("drain", "seen", **seen)
    except DeployerError as error:
        say(f"what {', '.join(olds)} worked on was not written down: {error}")


def _without_ages(seen: Optional[Dict[str, Any]]) -> Any:
    """What of it is worth another line: not that everything is a second older."""
    names = [[task.get("id") or task.get("name") for task in (seen or {}).get(what, [])] for what in ("lost", "worked")]
    return [*names, (seen or {}).get("instances"), (seen or {}).get("spoke")]


def _ended_by(deploy: Deploy, old: str) -> Optional[str]:
    """Who has ended the drain of *old* before its ceiling; None when nobody has."""
    # In the journal of any deploy: whoever is asked moves the drains of the others as well.
    rows = deploy.state.rows("SELECT data FROM journal WHERE step='drain' AND phase='moved' ORDER BY at, rowid")
    moved = [data for data in (json.loads(row["data"]) for row in rows) if data.get("instance") == old]
    return moved[-1].get("who") if moved and moved[-1].get("now") else None


def told(deploy: Deploy, name: str, pid: int) -> bool:
    """Whether a runner that died has told this already."""
    return any(event["pid"] == pid for event in deploy.journal.told(name))


def _warn_of_the_deaf(deploy: Deploy, old: Dict[str, Any], order: DrainOrder) -> None:
    pids = [process["pid"] for process in old.get("processes", [])]
    if not deploy.processes.heard(pids, signal.Signals[order.signal]):
        deploy.journal.event(
            "warning",
            text=f"pid {old['pid']} has no handler for {order.signal}: it dies of it at once, with whatever it is working on",
        )


def _warn_of_the_ceiling(deploy: Deploy, text: Optional[str]) -> None:
    if text and not any(event["text"] == text for event in deploy.journal.told("warning")):
        deploy.journal.event("warning", text=text)


def _by_itself(deploy: Deploy, old: str) -> Dict[str, Any]:
    # It exited between our look and the promise: nobody will ever drain it, so there is nothing to wait for.
    code = (deploy.state.row("SELECT exit_code FROM instances WHERE id=?", old) or {}).get("exit_code")
    return Verdict("exited" if code else "clean", code, 0.0).to_json()
