"""`pool.kind = "registry"`: a push drains its node there first, and no task is lost or sent to one that leaves."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app import SERVICES, App, make_app, wait_until
from lifecycle.dispatcher import Dispatcher
from lifecycle.real_registry import SOURCE, RealRegistry, real_registry


class NodeApp(App):
    """An app that is a node of the registry; its pushes tell it."""

    node = "node-1"

    def as_node(self, registry: RealRegistry, node: str, pool: str = "", args: str = "") -> None:
        self.node = node
        shutil.copy(SERVICES / "worker_node.py", self.dist / "worker_node.py")
        command = json.dumps([sys.executable, "worker_node.py", str(self.port), node, registry.ws])
        files = {"WORK_FILE": self.root / "work_file.txt", "REFUSED_FILE": self.root / "refused_file.txt"}
        names = ", ".join(f"{name} = {json.dumps(str(path))}" for name, path in files.items())
        run = f'command = {command}\nenv = {{ {names}, PYTHONPATH = "{SOURCE}" }}'
        lines = f'kind = "registry"\nurl = "{registry.url}"\n{pool}'
        self.configure(run, health='alive_for = "200ms"', **{"target.local.pool": lines})


@pytest.fixture
def registry() -> Iterator[RealRegistry]:
    with real_registry("--heartbeat", "1s", "--timeout", "5s") as found:
        yield found


@pytest.fixture
def app(tmp_path: Path, registry: RealRegistry) -> Iterator[NodeApp]:
    with make_app(tmp_path, NodeApp) as made:
        assert isinstance(made, NodeApp)
        made.as_node(registry, "node-1")
        yield made


def statuses(registry: RealRegistry, node: str = "node-1") -> list[str]:
    """What the registry told of the node, without what only changed how busy it was."""
    told = [seen.event for seen in registry.events if seen.node["id"] == node and seen.event != "node.busy"]
    return [event for place, event in enumerate(told) if place == 0 or told[place - 1] != event]


def test_a_push_drains_the_node_sees_it_leave_and_sees_the_new_release_come_back(
    registry: RealRegistry, app: NodeApp
) -> None:
    first = app.push()
    assert registry.pool("workers") == ["node-1"]
    assert first.event("pool.joined")["addresses"] == ["node-1"]
    old = app.current()
    app.release("v2")
    second = app.push()
    assert (
        second.names().index("pool.left") < second.names().index("drain.started") < second.names().index("pool.joined")
    )
    node = registry.node("node-1")
    assert node is not None
    assert (node["status"], node["release"], node["drain"]) == ("online", app.current(), None)
    assert node["release"] != old
    assert statuses(registry) == ["node.online", "node.draining", "node.offline", "node.online"]


def test_a_release_whose_node_never_comes_back_is_told(registry: RealRegistry, app: NodeApp) -> None:
    app.push()
    app.as_node(registry, "node-1", pool='timeout = "2s"')
    (app.dist / "worker_node.py").write_text("import time\ntime.sleep(600)\n")
    result = app.push(check=4)
    assert "no node of this instance is online" in result.err and "NodeAgent" in result.err
    assert registry.node("node-1")["status"] == "offline"  # type: ignore[index]


def test_a_registry_that_cannot_be_asked_is_a_preflight(registry: RealRegistry, app: NodeApp) -> None:
    app.push()
    before = app.current()
    registry.process.terminate()
    registry.process.wait(10)
    app.release("v2")
    result = app.push(check=6)
    assert "does not answer" in result.err and "registry serve" in result.err
    assert app.current() == before
    assert len(app.processes()) > 0


def test_a_mark_of_a_person_outlives_a_push_and_a_mark_of_a_push_does_not(registry: RealRegistry, app: NodeApp) -> None:
    app.push()
    registry.ask("POST", "/nodes/node-1/drain", {"by": "joe"})
    app.release("v2")
    app.push()
    node = registry.node("node-1")
    assert node is not None
    assert (node["status"], node["drain"]["by"], node["release"]) == ("draining", "joe", app.current())
    assert registry.pool("workers") == []


def test_a_stop_leaves_and_a_start_comes_back(registry: RealRegistry, app: NodeApp) -> None:
    app.push()
    app.run("stop", check=0)
    assert registry.node("node-1")["status"] == "offline"  # type: ignore[index]
    app.run("start", check=0)
    assert registry.node("node-1")["status"] == "online"  # type: ignore[index]


def test_a_node_by_hand_is_found_by_its_id(registry: RealRegistry, app: NodeApp) -> None:
    app.as_node(registry, "node-1", pool='node = "node-1"')
    text = (app.dist / "worker_node.py").read_text()
    (app.dist / "worker_node.py").write_text(
        text.replace("import os\n", 'import os\nos.environ.pop("DEPLOYER_INSTANCE")\n', 1)
    )
    app.push()
    app.release("v2")
    app.push()
    assert registry.node("node-1")["release"] == app.current()  # type: ignore[index]
    assert statuses(registry) == ["node.online", "node.draining", "node.offline", "node.online"]


@pytest.mark.parametrize(
    ("nodes", "seconds", "every"),
    [(3, 1.5, 0.1), pytest.param(20, 30.0, 0.25, marks=[pytest.mark.full, pytest.mark.timeout(1800)])],
)
def test_no_task_is_lost_or_sent_to_a_leaving_node_while_every_node_is_pushed(
    tmp_path: Path, registry: RealRegistry, nodes: int, seconds: float, every: float
) -> None:
    with ExitStack() as stack:
        apps: list[NodeApp] = []
        for number in range(nodes):
            made: Any = stack.enter_context(make_app(tmp_path / f"n{number}", NodeApp))
            made.as_node(registry, f"node-{number}")
            apps.append(made)
            made.push()
        assert len(registry.pool("workers")) == nodes
        before = {app.node: app.current() for app in apps}
        with Dispatcher(registry, {app.node: app.port for app in apps}, every, seconds) as dispatcher:
            wait_until(lambda: dispatcher.sent >= nodes, what="every node has had a task")
            for app in apps:
                app.release("v2")
                finished = app.push(timeout=180).event("drain.finished")
                assert (finished["verdict"], finished["lost"]) == ("clean", [])
        assert dispatcher.lost == []
        assert dispatcher.refused == []
        assert dispatcher.done == dispatcher.sent >= 2 * nodes
        done = [line for app in apps for line in app.lines("WORK_FILE")]
        assert sorted(int(line[0]) for line in done) == list(range(1, dispatcher.sent + 1))
        assert len({line[2] for line in done} - set(before.values())) > 0  # the new releases worked too
