"""Prove an instance of a deploy, heeding what people ask meanwhile; and say why one could not be proven."""

from __future__ import annotations

from typing import Any, Dict

from deployer.host import observe, ports
from deployer.host.deploy import Deploy
from deployer.host.heed import Attentive
from deployer.host.ready import NotReady, Proof, Prover


def prove(deploy: Deploy, instance: str, settings: Dict[str, Any]) -> Proof:
    port = observe.port_of(settings)
    keeper = Attentive(deploy, deploy.supervisor)
    proof = Prover(keeper, settings["health"], port, deploy.clock, deploy.processes).prove(instance)
    if deploy.gap_from is not None:
        deploy.gap_ms = max(0, round((proof.first_good_at - deploy.gap_from) * 1000))
    return proof


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
