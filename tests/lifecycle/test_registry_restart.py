"""A registry that goes and comes back: its nodes find it by themselves, not all at once, and what was marked stays marked."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from app import free_port, wait_until
from deployer.lifecycle.node import NodeAgent
from lifecycle.real_registry import RealRegistry, real_registry

NODES = 24


def online(registry: RealRegistry) -> set[str]:
    return {node["id"] for node in registry.ask("GET", "/nodes") if node["status"] == "online"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_nodes_come_back_apart_and_marks_survive(tmp_path: Path, agents: list[NodeAgent], how: signal.Signals) -> None:
    options = ("--state", str(tmp_path / "registry.db"))
    port = free_port()
    with real_registry(*options, listen=f"127.0.0.1:{port}") as first:
        for number in range(NODES):
            agents.append(
                NodeAgent(first.ws, id=f"node-{number}", pools=["workers"], reconnect_first="1s", stop_within="10ms")
            )
            agents[-1].start()
        everybody = {agent.id for agent in agents}
        wait_until(lambda: online(first) == everybody, what="all nodes are there")
        first.ask("POST", "/nodes/node-7/drain", {"by": "joe"})
        wait_until(lambda: agents[7].marked, what="the node knows of its mark")
        first.process.send_signal(how)
        first.process.wait(10)
    wait_until(lambda: not any(agent.online for agent in agents), what="every node knows that the registry has gone")
    with real_registry(*options, listen=f"127.0.0.1:{port}") as second:
        wait_until(lambda: online(second) == everybody - {"node-7"}, what="all nodes are back")
        mark = second.node("node-7")
        assert mark is not None
        assert (mark["status"], mark["drain"]["by"]) == ("draining", "joe")
        assert "node-7" not in second.pool("workers")
        arrivals = sorted(seen.at for seen in second.events if seen.event == "node.online")
        # One that came before we listened is not among them. A stampede would fill one or two of these.
        assert len({int((at - arrivals[0]) / 0.05) for at in arrivals}) >= 5, arrivals
        second.ask("POST", "/nodes/node-7/resume")
        wait_until(lambda: online(second) == everybody and not agents[7].marked, what="the mark is taken away")
