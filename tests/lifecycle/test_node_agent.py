"""NodeAgent against a registry by hand: what it says, when it comes back, and that it never does after `stop`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app import wait_until
from deployer.lifecycle import Lifecycle
from deployer.lifecycle.node import NodeAgent
from deployer.lifecycle.node_words import Node, Words
from lifecycle.scripted_registry import ScriptedRegistry

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    found = ScriptedRegistry()
    yield found
    found.close()


def agent_of(registry: ScriptedRegistry, made: list[NodeAgent], **more: Any) -> NodeAgent:
    agent = NodeAgent(registry.url, id="node-1", pools=["workers"], reconnect_first="20ms", **more)
    made.append(agent)
    return agent


def test_a_node_registers_beats_and_says_goodbye(registry: ScriptedRegistry, agents: list[NodeAgent]) -> None:
    agent = agent_of(registry, agents, release="R1", capacity=4, token="secret")
    agent.start(lambda: {"busy": 1, "tasks": [{"id": "t1", "name": "callClaude"}], "status": "ok"})
    said = registry.next("register")
    assert (said["id"], said["pools"], said["release"], said["capacity"]) == ("node-1", ["workers"], "R1", 4)
    assert (said["status"], said["busy"], said["tasks"][0]["name"], said["pid"]) == (
        "online",
        1,
        "callClaude",
        os.getpid(),
    )
    assert registry.headers[0]["Authorization"] == "Bearer secret"
    assert agent.wait_online()
    assert registry.next("heartbeat")["busy"] == 1
    assert registry.next("heartbeat")["busy"] == 1
    assert agent.stop("drained")
    assert registry.left.get(timeout=5)[1:] == (1000, "drained")
    assert not agent.online


def test_a_change_is_told_at_once_and_a_storm_of_changes_seldom(
    registry: ScriptedRegistry, agents: list[NodeAgent]
) -> None:
    busy = [0]
    agent = agent_of(registry, agents)
    agent.start(lambda: {"busy": busy[0]})
    assert agent.wait_online()
    began = time.monotonic()
    for number in range(1, 10_001):
        busy[0] = number
        agent.changed()
    took = time.monotonic() - began
    assert wait_until(lambda: registry.next("heartbeat")["busy"] == 10_000)
    assert len(registry.arrived) < 10 + 25 * (took + 1)  # at most 20 a second, and the beats


def test_what_is_given_up_is_said_with_the_goodbye(registry: ScriptedRegistry, agents: list[NodeAgent]) -> None:
    agent = agent_of(registry, agents)
    tasks = [{"id": "1", "name": "job-7"}, {"id": "2", "name": "job-8"}]
    agent.start(lambda: {"busy": 2, "tasks": tasks, "status": "shutting_down"})
    assert agent.wait_online()
    assert agent.stop("SIGTERM")
    assert registry.left.get(timeout=5)[1:] == (1000, "SIGTERM, abandoned: job-7, job-8")


def test_the_last_change_is_told_before_the_goodbye(registry: ScriptedRegistry, agents: list[NodeAgent]) -> None:
    busy = [0]
    agent = agent_of(registry, agents)
    agent.start(lambda: {"busy": busy[0]})
    assert agent.wait_online()
    for number in (2, 1, 0):  # the first is told at once, the rest together, a moment later
        busy[0] = number
        agent.changed()
        time.sleep(0.01)
    busy[0] = 7
    agent.changed()
    assert agent.stop()
    assert registry.left.get(timeout=5)[1] == 1000
    assert [message["busy"] for _, message in registry.said.queue if message["type"] == "heartbeat"][-1] == 7


def test_leaving_is_said_at_once_and_again_after_a_break(registry: ScriptedRegistry, agents: list[NodeAgent]) -> None:
    agent = agent_of(registry, agents)
    agent.start()
    assert agent.wait_online()
    assert agent.leaving("SIGTERM")
    assert registry.next("draining")["why"] == "SIGTERM"
    assert not agent.leaving("SIGINT")  # once
    registry.said.queue.clear()
    registry.cut(0)
    assert registry.next("register")["status"] == "draining"


def test_a_broken_connection_is_made_anew_by_the_same_process(
    registry: ScriptedRegistry, agents: list[NodeAgent]
) -> None:
    agent_of(registry, agents).start()
    first = registry.next("register")
    registry.cut(0)
    assert registry.next("register")["instance"] == first["instance"]


def test_a_node_that_was_stopped_never_comes_back(registry: ScriptedRegistry, agents: list[NodeAgent]) -> None:
    agent = agent_of(registry, agents)
    agent.start()
    assert agent.wait_online()
    thread = agent._link.thread  # type: ignore[union-attr]
    agent.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert len(registry.connections) == 1
    with pytest.raises(RuntimeError, match="was stopped"):
        agent.start()


def test_stop_before_the_connection_is_there_is_final_too(registry: ScriptedRegistry, agents: list[NodeAgent]) -> None:
    for _ in range(20):
        agent = NodeAgent(registry.url, id="node-1")
        agents.append(agent)
        agent.start()
        agent.stop()
        thread = agent._link.thread  # type: ignore[union-attr]
        thread.join(5)
        assert not thread.is_alive()


def test_who_was_replaced_comes_back_only_to_an_id_that_nobody_has(
    registry: ScriptedRegistry, agents: list[NodeAgent]
) -> None:
    agent = agent_of(registry, agents, aside="50ms")
    agent.start()
    assert registry.next("register")["yields"] is False
    assert agent.wait_online()
    registry.connections[0].close(4000, "replaced")
    assert registry.next("register")["yields"] is True
    registry.cut(1)  # a break is no sign that the id was taken again
    assert registry.next("register")["yields"] is False


def test_a_node_that_is_not_understood_does_not_come_back_at_once(
    registry: ScriptedRegistry, agents: list[NodeAgent], caplog: pytest.LogCaptureFixture
) -> None:
    agent = agent_of(registry, agents, reconnect_longest="2s")
    agent.start()
    assert agent.wait_online()
    refused = time.monotonic()
    registry.connections[0].close(4002, "no such message")
    registry.next("register")  # the first one
    registry.next("register")
    assert time.monotonic() - refused >= 1.0
    assert "does not understand us" in caplog.text and "no such message" in caplog.text


def test_a_mark_is_known_to_the_node(registry: ScriptedRegistry, agents: list[NodeAgent]) -> None:
    agent = agent_of(registry, agents)
    agent.start()
    assert agent.wait_online()
    assert not agent.marked
    registry.connections[0].send('{"type":"drain","by":"joe"}')
    assert wait_until(lambda: agent.marked)
    registry.connections[0].send("\x00 no json")
    registry.connections[0].send('["no object"]')
    registry.connections[0].send('{"type":"resume","by":"joe"}')
    assert wait_until(lambda: not agent.marked)
    assert len(registry.connections) == 1


@pytest.mark.parametrize("letter", ["x", "漢"])
def test_tasks_with_endless_names_do_not_cost_the_node_its_registry(letter: str) -> None:
    tasks = [{"id": str(number), "name": letter * 2000, "started_at": "now"} for number in range(150)]
    words = Words(Node("n", ["p"], None, None, "i"), lambda: {"busy": 150, "tasks": tasks})
    for message in (words.register(), words.heartbeat()):
        said = json.loads(message)
        assert len(message) <= 64 * 1024 and said["busy"] == 150 and said["tasks"]


def test_facts_that_fail_are_no_reason_to_look_dead(registry: ScriptedRegistry, agents: list[NodeAgent]) -> None:
    agent = agent_of(registry, agents)
    agent.start(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert registry.next("register")["busy"] == 0
    assert registry.next("heartbeat")["busy"] == 0


NODE = """
import os, sys, time
from deployer.lifecycle.node import NodeAgent
agent = NodeAgent(sys.argv[1], id="node-1", pools=["workers"], reconnect_first="20ms")
agent.start()
assert agent.wait_online()
"""


def program(registry: ScriptedRegistry, body: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    argv = [sys.executable, "-c", NODE + body, registry.url]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_registry_that_does_not_answer_delays_a_stop_by_its_limit_only(registry: ScriptedRegistry) -> None:
    body = (
        "input(); began = time.monotonic(); answered = agent.stop();"
        "print(answered, time.monotonic() - began, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", REGISTRY], env={**os.environ, "PYTHONPATH": f"{SOURCE}:{SOURCE.parent / 'tests'}"},
        stdout=subprocess.PIPE, text=True,
    ) as silent:  # fmt: skip
        assert silent.stdout is not None
        registry.url = silent.stdout.readline().strip()
        node = subprocess.Popen(
            [sys.executable, "-c", NODE + "print(flush=True);" + body, registry.url],
            env={**os.environ, "PYTHONPATH": str(SOURCE)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert node.stdin is not None and node.stdout is not None
        node.stdout.readline()
        stop_whole(silent)
        out, _ = node.communicate("\n", timeout=20)
        silent.kill()
    answered, took = out.split()
    assert answered == "False"
    assert 0.09 <= float(took) < 8.0  # 100 ms, and what a busy machine adds
    assert node.returncode == 0


def stop_whole(process: subprocess.Popen[str]) -> None:
    """SIGSTOP, and wait until every thread has heard it."""
    process.send_signal(signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])


REGISTRY = """
from lifecycle.scripted_registry import ScriptedRegistry
import time
print(ScriptedRegistry().url, flush=True)
time.sleep(60)
"""


def test_a_program_that_just_ends_says_goodbye(registry: ScriptedRegistry) -> None:
    node = program(registry, "")
    assert node.communicate(timeout=20) == ("", "")
    assert registry.left.get(timeout=5)[1:] == (1000, "stopped")


def test_a_killed_node_s_children_do_not_hide_its_death(registry: ScriptedRegistry) -> None:
    child = "if not os.fork():\n    print(os.getpid(), flush=True)\n    time.sleep(60)\ntime.sleep(60)"
    node = program(registry, child)
    assert node.stdout is not None
    forked = int(node.stdout.readline())
    node.kill()
    try:
        assert registry.left.get(timeout=5)[1] is None  # the connection broke, though the child lives
        os.kill(forked, 0)
    finally:
        os.kill(forked, signal.SIGKILL)
        node.communicate(timeout=10)


def test_a_node_finds_out_that_its_registry_has_gone_silent(agents: list[NodeAgent]) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{SOURCE}:{SOURCE.parent / 'tests'}"}
    with subprocess.Popen(
        [sys.executable, "-c", REGISTRY], env=environment, stdout=subprocess.PIPE, text=True
    ) as silent:
        assert silent.stdout is not None
        agent = NodeAgent(silent.stdout.readline().strip(), id="node-1")
        agents.append(agent)
        agent.start()
        assert agent.wait_online()
        stop_whole(silent)
        try:
            assert wait_until(lambda: not agent.online, 15)
        finally:
            silent.kill()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": "http://127.0.0.1:7070"}, 'write one such as "ws://'),
        ({"url": "ws://joe:secret@127.0.0.1:7070"}, "holds no password"),
        ({"id": ""}, "is no name"),
        ({"id": "a\nb"}, "is no name"),
        ({"pools": "workers"}, r'\["workers"\]'),
        ({"capacity": 0}, "how many tasks"),
        ({"stop_within": 0.1}, '"0.1s"'),
    ],
)
def test_what_cannot_be_right_is_refused_when_the_agent_is_made(wrong: dict[str, Any], said: str) -> None:
    right: dict[str, Any] = {"url": "ws://127.0.0.1:7070", "id": "node-1"}
    with pytest.raises((ValueError, TypeError), match=said):
        NodeAgent(**{**right, **wrong})


def test_a_duration_may_be_a_timedelta() -> None:
    assert NodeAgent("ws://127.0.0.1:1", id="n", stop_within=timedelta(seconds=2))._stop_within == 2.0


def test_the_limits_are_those_of_the_contract_where_nobody_sets_them() -> None:
    limits = Lifecycle()._parts.limits
    assert (limits.max_wait, limits.cleanup_within, limits.crash_within) == (600.0, 30.0, 5.0)
    assert NodeAgent("ws://127.0.0.1:7070", id="n")._stop_within == 0.1
