"""The pool that is a node registry, against a real one: what it asks, what it waits for, and what it says when it is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import wait_until
from deployer.errors import PoolError, PreflightError
from deployer.host.pools.choose import pool_of
from deployer.host.pools.registry import Registry
from deployer.lifecycle.node import NodeAgent
from lifecycle.real_registry import RealRegistry, environment, real_registry

TOKEN = "the-admin-s"


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    env = environment(DEPLOYER_REGISTRY_ADMIN_TOKEN=TOKEN, DEPLOYER_REGISTRY_NODE_TOKEN="a-node")
    with real_registry(env=env) as found:
        yield found


@pytest.fixture
def nodes(registry: RealRegistry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`nodes(id, instance)` is a node that is online."""
    made: list[NodeAgent] = []

    def node(id: str, instance: str) -> NodeAgent:
        monkeypatch.setenv("DEPLOYER_INSTANCE", instance)
        made.append(NodeAgent(registry.ws, id=id, pools=["workers"], token="a-node"))
        made[-1].start()
        assert made[-1].wait_online()
        return made[-1]

    yield node
    for agent in made:
        agent.stop()


@pytest.fixture
def pool(registry: RealRegistry, tmp_path: Path) -> Registry:
    return made(registry, tmp_path)


def made(registry: RealRegistry, root: Path, token: str = TOKEN, **more: Any) -> Registry:
    (root / "token").write_text(f"{token}\n")
    settings = {"kind": "registry", "url": registry.url, "token_file": str(root / "token"), "timeout": 3.0, **more}
    found = pool_of({"pool": settings, "host": "deploy@web1"}, "my-app")
    assert isinstance(found, Registry)
    return found


def test_who_leaves_takes_no_work_and_who_joins_is_waited_for(
    registry: RealRegistry, nodes: Any, pool: Registry
) -> None:
    old = nodes("one", "old")
    pool.check([])
    pool.send_to([], ["old"])
    assert pool.named(["old", "unknown"]) == ["one", "unknown"]
    assert registry.pool("workers") == []
    wait_until(lambda: old.marked, what="the node was told")
    pool.send_to(["old"], [])  # a revert
    assert registry.pool("workers") == ["one"]
    late = threading.Timer(0.3, nodes, ("two", "new"))
    late.start()
    pool.send_to(["new"], ["old"])
    assert registry.pool("workers") == ["two"]
    pool.send_to(["new"], ["old"])  # a resumed deploy repeats it
    assert registry.pool("workers") == ["two"]
    assert pool.in_flight("old") is None


def test_the_mark_of_a_push_that_died_ends_with_the_process(registry: RealRegistry, nodes: Any, pool: Registry) -> None:
    old = nodes("three", "old3")
    pool.send_to([], ["old3"])
    old.stop()
    nodes("three", "new3")
    assert "three" in registry.pool("workers")


def test_a_mark_of_somebody_else_stays_and_is_not_waited_for(
    registry: RealRegistry, nodes: Any, pool: Registry
) -> None:
    nodes("four", "four")
    registry.ask("POST", "/nodes/four/drain", {"by": "joe"})
    pool.send_to(["four"], [])
    node = registry.node("four")
    assert node is not None and (node["status"], node["drain"]["by"]) == ("draining", "joe")


def test_a_node_is_found_by_its_id_where_it_names_no_instance(
    registry: RealRegistry, nodes: Any, tmp_path: Path
) -> None:
    nodes("my-app at web1", "")
    pool = made(registry, tmp_path, node="{app} at {host}")
    pool.send_to([], ["whatever"])
    assert "my-app at web1" not in registry.pool("workers")
    pool.send_to(["whatever"], [])
    assert "my-app at web1" in registry.pool("workers")


def test_nobody_who_joins_is_an_error_that_says_what_to_look_at(pool: Registry) -> None:
    pool._timeout = 0.3
    with pytest.raises(PoolError) as caught:
        pool.send_to(["nobody"], [])
    assert "no node of this instance is online" in caught.value.title and "NodeAgent" in (caught.value.hint or "")


def test_a_registry_that_restarts_while_a_node_is_waited_for_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOYER_INSTANCE", "late")
    with real_registry() as first:
        pool = made(first, tmp_path, timeout=30.0)
        killed = threading.Timer(0.3, first.process.kill)
        killed.start()
        waiting = threading.Thread(target=pool.send_to, args=(["late"],))
        waiting.start()
        first.process.wait(10)
    busy = time.process_time()
    waiting.join(1.5)
    assert time.process_time() - busy < 0.7, "it spins while the registry is away"
    with real_registry(listen=first.address) as second:
        agent = NodeAgent(second.ws, id="late", pools=["workers"])
        agent.start()
        waiting.join(20)
        assert not waiting.is_alive() and second.pool("workers") == ["late"]
        agent.stop()


@pytest.mark.parametrize(
    ("change", "title", "hint"),
    [
        ({"token": "guessed"}, "refuses", "token_file"),
        ({"token_file": "/nowhere/token"}, "could not be read", "0600"),
        ({"url": "http://127.0.0.1:1"}, "does not answer", "registry serve"),
    ],
)
def test_what_keeps_us_out_is_a_preflight(
    registry: RealRegistry, tmp_path: Path, change: dict[str, Any], title: str, hint: str
) -> None:
    with pytest.raises(PreflightError) as caught:
        made(registry, tmp_path, **change).check([])
    assert title in caught.value.title and hint in (caught.value.hint or "")
    assert TOKEN not in str(caught.value.to_json()) and "guessed" not in str(caught.value.to_json())
