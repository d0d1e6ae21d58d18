"""What earlier runs have left running (`--no-autostop`, `cleanup = "never"`): it goes before the next one, and with `stop`."""

from __future__ import annotations

import json
from typing import Any, Dict

from deployer.host.batch import telling
from deployer.host.batch.parts import report_of, socket_of
from deployer.host.batch.waiting import await_gone
from deployer.host.deploy import Deploy
from deployer.model import DrainOrder, Spec


def end(deploy: Deploy) -> None:
    """Stop every service that an earlier run has left, newest first."""
    for one in reversed(deploy.supervisor.status()["instances"]):
        spec = _spec(deploy, one)
        name = spec.part or one["id"]
        order = DrainOrder(**spec.drain) if spec.drain else DrainOrder()
        deploy.supervisor.dismiss(deploy.request.deploy, deploy.request.who, one["id"], order)
        gone = await_gone(deploy, one["id"], order.ceiling)
        how = telling.read(report_of(deploy.paths, one["id"]))
        for left in (report_of(deploy.paths, one["id"]), socket_of(deploy.paths, one["id"])):
            telling.remove(left)
        deploy.journal.event(
            "service.stopped", service=name, initialized=True, cleanup_called=True, running=not gone,
            cleanup_completed=gone and how.get("cleanup_completed", True), error=how.get("error"), left_by_an_earlier_run=True,
            **_ended(deploy, one["id"]),
        )  # fmt: skip


def _ended(deploy: Deploy, instance: str) -> Dict[str, Any]:
    verdict = telling.verdict(deploy, instance)
    return {"verdict": verdict.get("verdict"), "seconds": round(float(verdict.get("waited_s") or 0.0), 3)}


def _spec(deploy: Deploy, one: Dict[str, Any]) -> Spec:
    row = deploy.state.row("SELECT spec FROM instances WHERE id=?", one["id"])
    return Spec.from_json(json.loads(row["spec"])) if row else Spec(one["id"], "", "", (), "")
