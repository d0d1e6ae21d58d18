"""`deployer registry` at the command line: what it shows, what it exits with, what programs read."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from registries import RawNode, Serving, cleared, deployer, serving

from deployer.cli.render.paint import Paint
from deployer.cli.render.registry import event_line, nodes_lines
from deployer.entry import wants_engine
from deployer.registry.asking import Asking

SCHEMA = Draft202012Validator(json.loads(files("deployer.cli").joinpath("events.schema.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def registry() -> Iterator[Serving]:
    with serving("--timeout", "60s") as made:
        yield made


def document(id: str, status: str = "online", **more: Any) -> dict[str, Any]:
    plain = {"pools": ["workers"], "release": None, "busy": 0, "capacity": None, "reason": None, "drain": None}
    return {"id": id, "status": status, "since": "2026-11-22T12:00:00.000Z", **plain, **more}


def test_nodes_and_drain_show_what_became_of_a_node(registry: Serving) -> None:
    node = registry.node("node-1", busy=2, release="r1")
    shown = deployer("registry", "nodes", "--url", registry.url)
    assert shown.returncode == 0
    assert [line.split()[:5] for line in shown.stdout.splitlines()[:2]] == [
        ["NODE", "STATUS", "POOLS", "BUSY", "RELEASE"], ["node-1", "online", "workers", "2/4", "r1"],
    ]  # fmt: skip
    done = deployer("registry", "drain", "node-1", "--url", registry.url)
    assert (done.returncode, done.stdout) == (
        0,
        "node-1  draining · out of every pool; it stays connected · 2 tasks in progress\n",
    )
    assert registry.get("/nodes/node-1")["drain"]["by"].partition("@")[0]
    done = deployer("--json", "registry", "drain", "node-1", "--undo", "--url", registry.url)
    told = json.loads(done.stdout)
    assert told["event"] == "registry.drain" and told["node"]["status"] == "online"
    assert valid(told)
    told = json.loads(deployer("registry", "nodes", "--json", "--url", registry.url).stdout)
    assert [node["id"] for node in told["nodes"]] == ["node-1"] and valid(told)
    node.stop()
    registry.event("node.offline", "node-1")
    assert [event for event in registry.events if not valid(event)] == []


def valid(event: dict[str, Any]) -> bool:
    return SCHEMA.is_valid(event)


@pytest.mark.parametrize("words", [["nodes"], ["drain", "node-1"]])
def test_no_registry_there_is_told_with_exit_6(words: list[str]) -> None:
    done = deployer("registry", *words, "--url", "http://127.0.0.1:9")
    assert done.returncode == 6 and done.stderr.startswith("error: no registry answers at http://127.0.0.1:9\n")


def test_unknown_node_is_told_with_exit_2(registry: Serving) -> None:
    done = deployer("registry", "drain", "nobody", "--url", registry.url)
    assert done.returncode == 2 and "no node nobody has registered here" in done.stderr


@pytest.mark.parametrize("name", ["..", "a/b", "%2F"])
def test_node_is_found_whatever_it_is_called(registry: Serving, name: str) -> None:
    node = registry.node(name)
    assert Asking(registry.url, None).drain(name, "joe")["status"] == "draining"
    node.stop()


def test_admin_token_is_needed_and_taken_from_the_environment() -> None:
    token = {"DEPLOYER_REGISTRY_ADMIN_TOKEN": "admin-secret"}
    with serving(environment=token) as registry:
        refused = deployer("registry", "nodes", "--url", registry.url)
        assert refused.returncode == 6 and "DEPLOYER_REGISTRY_ADMIN_TOKEN" in refused.stderr
        assert (
            deployer("registry", "nodes", "--url", registry.url, environment=token).stdout
            == "no node has registered yet\n"
        )


def test_table_on_a_terminal_moves_with_the_nodes_and_survives_a_restart_of_the_registry() -> None:
    with serving() as registry:
        watch, screen = on_a_terminal("registry", "nodes", "--url", registry.url)
        first = RawNode(registry.address, "first")
        until(screen, "first")
        first.say(type="draining", why="SIGTERM")
        until(screen, "draining")
        registry.end()
        until(screen, "no answer")
    watch.send_signal(signal.SIGINT)
    assert watch.wait(20) == 130
    os.close(screen)


def on_a_terminal(*argv: str) -> tuple[subprocess.Popen[bytes], int]:
    main, sub = pty.openpty()
    fcntl.ioctl(sub, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    command = [sys.executable, "-m", "deployer", *argv]
    process = subprocess.Popen(command, env={**cleared(None), "TERM": "xterm"}, stdin=sub, stdout=sub, stderr=sub)
    os.close(sub)
    return process, main


def until(screen: int, words: str) -> None:
    """Reads the screen until *words* are on it; the test's own time limit ends a wait in vain."""
    seen = ""
    while words not in seen:
        seen += os.read(screen, 65536).decode(errors="replace")


def test_rows_are_ordered_by_what_a_person_looks_for_and_the_rest_is_counted() -> None:
    nodes = [document("idle"), document("gone", "offline", reason="clean: stopped"), document("busy", busy=3),
             document("leaving", "draining", busy=1, capacity=4, reason="SIGTERM")]  # fmt: skip
    lines = nodes_lines(nodes, Paint(), now=datetime(2026, 11, 22, 12, 1, tzinfo=UTC), most=3)
    assert lines == [
        "NODE     STATUS    POOLS    BUSY  RELEASE  SINCE  WHY",
        "leaving  draining  workers  1/4   -        1m     SIGTERM",
        "busy     online    workers  3     -        1m",
        "idle     online    workers  0     -        1m",
        "4 nodes: 2 online, 1 offline, 1 draining · 1 not shown",
    ]


def test_line_of_the_log_cannot_move_a_cursor() -> None:
    event = {
        "time": "2026-11-22T12:00:01.000Z",
        "event": "node.offline",
        "node": "n\u202e1",
        "reason": "lost: \u202ex",
        "pools": ["p"],
    }
    line = event_line(event, Paint())
    assert line.endswith(":01  n1                offline    lost: x · p")
    assert line.isprintable()


def test_registry_drain_starts_no_engine() -> None:
    assert not wants_engine(["registry", "drain", "node-1"])
    assert wants_engine(["drain"])
