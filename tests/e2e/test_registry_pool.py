"""`pool.kind = "registry"`: a push drains its node there first, and no task is lost or sent to one that leaves."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from app import SERVICES, App, free_port, make_app, wait_until
from lifecycle.dispatcher import Dispatcher
from lifecycle.real_registry import SOURCE, RealRegistry, real_registry

OVERLAP = 'app = "t-app"\nstrategy = "overlap"'


class NodeApp(App):
    """An app that is a node of the registry; its pushes tell it."""

    node = "node-1"

    def as_node(self, registry: RealRegistry, node: str, pool: str = "", health: str = 'alive_for = "200ms"') -> None:
        self.node = node
        shutil.copy(SERVICES / "worker_node.py", self.dist / "worker_node.py")
        command = json.dumps([sys.executable, "worker_node.py", str(self.port), node, registry.ws])
        files = {"WORK_FILE": self.root / "work_file.txt", "REFUSED_FILE": self.root / "refused_file.txt"}
        names = ", ".join(f"{name} = {json.dumps(str(path))}" for name, path in files.items())
        run = f'command = {command}\nenv = {{ {names}, PYTHONPATH = "{SOURCE}" }}'
        lines = f'kind = "registry"\nurl = "{registry.url}"\n{pool}'
        self.configure(run, health=health, **{"target.local.pool": lines})


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with real_registry("--heartbeat", "1s", "--timeout", "5s") as found:
        yield found


@pytest.fixture
def app(tmp_path: Path, registry: RealRegistry) -> Iterator[NodeApp]:
    with make_app(tmp_path, NodeApp) as made:
        assert isinstance(made, NodeApp)
        made.as_node(registry, f"node {tmp_path.name}")
        yield made


def statuses(registry: RealRegistry, node: str) -> list[str]:
    """What the registry told of the node, without what only changed how busy it was."""
    told = [seen.event for seen in registry.events if seen.node["id"] == node and seen.event != "node.busy"]
    return [event for place, event in enumerate(told) if place == 0 or told[place - 1] != event]


def test_a_push_drains_the_node_sees_it_leave_and_sees_the_new_release_come_back(
    registry: RealRegistry, app: NodeApp
) -> None:
    first = app.push()
    assert app.node in registry.pool("workers")
    assert first.event("pool.joined")["addresses"] == [app.node]
    old = app.current()
    app.release("v2")
    second = app.push()
    assert (
        second.names().index("pool.left") < second.names().index("drain.started") < second.names().index("pool.joined")
    )
    node = registry.node(app.node)
    assert node is not None
    assert (node["status"], node["release"], node["drain"]) == ("online", app.current(), None)
    assert node["release"] != old
    assert statuses(registry, app.node) == ["node.online", "node.draining", "node.offline", "node.online"]


def test_a_release_whose_node_never_comes_back_gives_way_to_the_old_one(registry: RealRegistry, app: NodeApp) -> None:
    app.push()
    old = app.current()
    app.as_node(registry, app.node, pool='timeout = "2s"')
    (app.dist / "worker_node.py").write_text("import time\ntime.sleep(600)\n")
    result = app.push(check=1)
    assert result.event("push.finished")["status"] == "reverted"
    assert "no node of this instance is online" in result.err
    back = registry.node(app.node)
    assert back is not None and (back["status"], back["release"]) == ("online", old) and app.current() == old


def test_a_registry_that_cannot_be_asked_is_a_preflight(app: NodeApp) -> None:
    with real_registry() as registry:
        app.as_node(registry, "node-1")
        app.push()
    before = app.current()
    app.release("v2")
    result = app.push(check=6)
    assert "does not answer" in result.err and "registry serve" in result.err
    assert app.current() == before
    assert len(app.processes()) > 0


@pytest.mark.full
def test_a_mark_of_a_person_outlives_a_push_and_a_mark_of_a_push_does_not(registry: RealRegistry, app: NodeApp) -> None:
    app.push()
    registry.ask("POST", f"/nodes/{quote(app.node)}/drain", {"by": "joe"})
    app.release("v2")
    app.push()
    node = registry.node(app.node)
    assert node is not None
    assert (node["status"], node["drain"]["by"], node["release"]) == ("draining", "joe", app.current())
    assert app.node not in registry.pool("workers")


@pytest.mark.full
def test_a_stop_leaves_and_a_start_comes_back(registry: RealRegistry, app: NodeApp) -> None:
    app.push()
    app.run("stop", check=0)
    assert registry.node(app.node)["status"] == "offline"  # type: ignore[index]
    app.run("start", check=0)
    assert registry.node(app.node)["status"] == "online"  # type: ignore[index]


def test_a_node_by_hand_is_found_by_its_id(registry: RealRegistry, app: NodeApp) -> None:
    app.as_node(registry, app.node, pool=f'node = "{app.node}"')
    text = (app.dist / "worker_node.py").read_text()
    (app.dist / "worker_node.py").write_text(
        text.replace("import os\n", 'import os\nos.environ.pop("DEPLOYER_INSTANCE")\n', 1)
    )
    app.push()
    app.release("v2")
    app.push()
    assert registry.node(app.node)["release"] == app.current()  # type: ignore[index]
    assert statuses(registry, app.node) == ["node.online", "node.draining", "node.offline", "node.online"]


def overlaps(app: NodeApp, registry: RealRegistry) -> None:
    """Configure a service that is replaced beside itself, on two ports in turn."""
    app.as_node(registry, app.node, health='url = "http://127.0.0.1:{port}/"\ninterval = "50ms"\nready_within = "3s"')
    text = (app.root / "deploy.toml").read_text()
    text = text.replace("[run]", f"[run]\nports = [{app.port}, {free_port()}]", 1).replace('app = "t-app"', OVERLAP, 1)
    (app.root / "deploy.toml").write_text(text)


def test_with_overlap_the_node_is_never_away_and_the_old_process_finishes_its_task(
    registry: RealRegistry, app: NodeApp
) -> None:
    overlaps(app, registry)
    app.push()
    first = registry.node(app.node)
    assert first is not None
    with Dispatcher(registry, {app.node: app.port}, every=60, seconds=2) as dispatcher:
        dispatcher.send("1", app.node)
        wait_until(lambda: registry.node(app.node)["busy"] == 1, what="the task is in flight")  # type: ignore[index]
        app.release("v2")
        pushed = app.push()
    second = registry.node(app.node)
    assert second is not None
    assert (second["status"], second["release"]) == ("online", app.current())
    assert second["instance"] != first["instance"]
    assert (dispatcher.done, dispatcher.lost, dispatcher.refused) == (1, [], [])
    assert pushed.event("drain.finished")["verdict"] == "clean"
    assert "node.offline" not in statuses(registry, app.node)


def test_a_release_that_took_the_id_and_failed_gives_it_back(registry: RealRegistry, app: NodeApp) -> None:
    overlaps(app, registry)
    text = (app.root / "deploy.toml").read_text()
    (app.root / "deploy.toml").write_text(text.replace("[run]", "[run]\nrehearse = false", 1))
    app.push()
    old = app.current()
    program = app.dist / "worker_node.py"
    program.write_text(program.read_text().replace("if life.shutting_down", "if True"))
    app.push(check=1)
    taken = [seen for seen in registry.events if seen.event == "node.online" and seen.node["id"] == app.node]
    assert len(taken) >= 2, "the broken release never took the id"
    back = wait_until(
        lambda: app.node in registry.pool("workers") and registry.node(app.node), what="the old one has it again"
    )
    assert (back["status"], back["release"]) == ("online", old)


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
        assert {app.node for app in apps} <= set(registry.pool("workers"))
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
