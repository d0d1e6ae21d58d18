"""Prove an instance of a deploy, heeding what people ask meanwhile; and say why one could not be proven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

from deployer.host import health, observe, ports
from deployer.host.deploy import Deploy
from deployer.host.heed import Attentive
from deployer.host.ready import NotReady, Proof, Prover
from deployer.host.supervisors.base import Watched
from deployer.model import Spec

GATE = "/serve"
"""What an app is asked on its private socket once it has proven itself: from now on, accept."""


def prove(deploy: Deploy, instance: str, settings: Dict[str, Any], watched: Optional[Watched] = None) -> Proof:
    """The proof that *instance* serves, by *watched* (the supervisor); a gate of its own is opened then. Raises NotReady."""
    keeper = Attentive(deploy, watched or deploy.supervisor)
    spec = _spec(deploy, instance)
    port = spec.port if spec is not None and spec.port else observe.port_of(settings)
    private = deploy.paths.health_socket(instance) if spec is not None and spec.private_health else None
    proof = Prover(keeper, settings["health"], port, deploy.clock, deploy.processes, private).prove(instance)
    if spec is not None and spec.gate and private is not None:
        _open_gate(private, settings["health"]["timeout"])
    if deploy.gap_from is not None:
        deploy.gap_ms = max(0, round((proof.first_good_at - deploy.gap_from) * 1000))
    return proof


def _spec(deploy: Deploy, instance: str) -> Optional[Spec]:
    row = deploy.state.row("SELECT spec FROM instances WHERE id=?", instance)
    return Spec.from_json(json.loads(row["spec"])) if row else None


def _open_gate(private: Path, timeout: float) -> None:
    status = health.tell(GATE, timeout, private)
    # An app that knows no gate has opened its sockets already.
    if status is None or (status >= 300 and status not in (404, 405, 501)):
        raise NotReady(f"it was told to open its sockets (POST {GATE}), and answered {status or 'nothing'}")


def why_not(deploy: Deploy, error: NotReady) -> str:
    """*error*, and who sits on the service's port where that is somebody else."""
    ours = {process["pid"] for one in deploy.supervisor.status()["instances"] for process in one["processes"]}
    seen = []
    for port in observe.service_ports(deploy.request.settings):
        inodes = ports.listening(port)
        others = [pid for pid in ports.holders(inodes, deploy.processes.table()) if pid not in ours]
        if others and not ports.holders(inodes, ours) and not deploy.request.settings["run"]["socket"]:
            seen.append(f"port {port} is held by pid {others[0]} ({deploy.processes.command(others[0], 80)})")
    return "; ".join([str(error), *seen])
