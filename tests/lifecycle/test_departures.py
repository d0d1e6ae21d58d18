"""
When, and how, the registry knew that a node had gone: the table of docs/registry.md, each row by a real process.

`python tests/lifecycle/test_departures.py` prints it.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from lifecycle.real_registry import RealRegistry, Seen, environment, real_registry
from netns import Network
from parts import find, need

HEARTBEAT, TIMEOUT = 0.3, 1.5
LIMITS = ("--heartbeat", f"{HEARTBEAT * 1000:.0f}ms", "--timeout", f"{TIMEOUT * 1000:.0f}ms")
SOON = 0.05
"""Seconds within which the registry must know of whatever can be known at once."""
TRIES = 4
"""A busy machine may take 50 ms for itself; a design that needs them fails every time."""


@dataclass(frozen=True)
class Row:
    """A way to go: the signal that the test sends (None: the node goes by itself), what is told first, why, and the exit code."""

    how: str
    signal: int | None
    event: str
    reason: str
    code: int | None


ROWS = [
    Row("stop", None, "node.offline", "clean", 0),
    Row("SIGTERM", signal.SIGTERM, "node.offline", "clean", 0),
    Row("SIGTERM in a task", signal.SIGTERM, "node.draining", "SIGTERM", 0),
    Row("SIGINT", signal.SIGINT, "node.offline", "clean", 0),
    Row("exception in main", None, "node.offline", "ValueError", 1),
    Row("exception in a thread", None, "node.offline", "ValueError", 1),
    Row("exception in a task", None, "node.offline", "ValueError", 1),
    Row("clean-up raises", signal.SIGTERM, "node.offline", "clean", 0),
    Row("clean-up hangs", signal.SIGTERM, "node.offline", "clean", 0),
    Row("os._exit", None, "node.offline", "lost", 7),
    Row("SIGKILL", signal.SIGKILL, "node.offline", "lost", -signal.SIGKILL),
    Row("SIGSTOP", signal.SIGSTOP, "node.offline", "timeout", None),
]


@pytest.fixture(scope="module")
def registry() -> Iterator[RealRegistry]:
    with real_registry(*LIMITS) as found:
        yield found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.how)
def test_the_registry_knows_at_once_who_has_gone(registry: RealRegistry, row: Row) -> None:
    within = TIMEOUT + HEARTBEAT + 1.0 if row.signal == signal.SIGSTOP else SOON
    for attempt in range(TRIES):
        took, seen = depart(registry, row, f"{row.how} {attempt}")
        assert row.reason in (seen.node["reason"] or ""), seen
        if took <= within:
            break
    assert took <= within, f"{row.how}: {took * 1000:.1f} ms"


def depart(registry: RealRegistry, row: Row, name: str) -> tuple[float, Seen]:
    """Seconds from the event to what the registry told of it, at another process; the node is out of its pool by then."""
    argv = [sys.executable, str(Path(__file__).with_name("departing.py")), registry.ws, name, row.how]
    node = subprocess.Popen(
        argv, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert node.stdin is not None and node.stdout is not None
    try:
        assert node.stdout.readline() == "online\n", node.communicate(timeout=10)[1]
        assert name in registry.pool("workers")
        node.stdin.write("\n")
        node.stdin.flush()
        at = float(node.stdout.readline())
        if row.signal is not None:
            at = time.monotonic()
            os.kill(node.pid, row.signal)
        seen = registry.first(["node.draining", "node.offline"], name, at)
        assert name not in registry.pool("workers")
        assert seen.event == row.event or row.event == "node.offline", seen
        last = registry.first(["node.offline"], name, at)
        if row.signal == signal.SIGSTOP:
            os.kill(node.pid, signal.SIGKILL)
        assert row.code is None or node.wait(20) == row.code, node.communicate(timeout=10)[1]
        return seen.at - at, last if row.event == "node.offline" else seen
    finally:
        node.kill()
        node.communicate(timeout=10)


@contextmanager
def two_networks() -> Iterator[tuple[Network, Network]]:
    """Namespaces with a cable between them: 10.77.0.1 is the first, 10.77.0.2 the second."""
    networks: list[Network] = []
    try:
        for number in (1, 2):
            networks.append(Network(f"reg{number}-{os.getpid()}"))
        first, second = networks
        ip = find("ip") or "ip"
        peer = ["peer", "name", "cable", "netns", second.name]
        subprocess.run([ip, "-n", first.name, "link", "add", "cable", "type", "veth", *peer], check=True)
        for number, network in enumerate(networks, 1):
            subprocess.run([ip, "-n", network.name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable"], check=True)
            subprocess.run([ip, "-n", network.name, "link", "set", "cable", "up"], check=True)
        yield first, second
    finally:
        for network in networks:
            network.close()


def into(network: Network, address: str) -> http.client.HTTPConnection:
    """A connection to *address*, made within *network*."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    with network.inside():
        connection.connect()
    return connection


def pulled() -> tuple[float, Seen]:
    """Seconds from the pulled cable to what the registry told of it, and that; then the node comes back by the mended cable."""
    tokens = {"DEPLOYER_REGISTRY_ADMIN_TOKEN": "the-admin", "DEPLOYER_REGISTRY_NODE_TOKEN": "a-node"}
    with two_networks() as (here, there):
        connect = partial(into, here)
        env = environment(**tokens)
        with real_registry(*LIMITS, prefix=here.prefix(), listen="10.77.0.1:0", env=env, connect=connect) as registry:
            argv = [sys.executable, str(Path(__file__).with_name("departing.py")), registry.ws, "far", "wait"]
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            node = subprocess.Popen([*there.prefix(), *argv], env=env, text=True, **streams)  # type: ignore[call-overload]
            try:
                assert node.stdout.readline() == "online\n"
                at = time.monotonic()
                cut(here, "down")
                seen = registry.first(["node.offline"], "far", at)
                assert registry.pool("workers") == []
                cut(here, "up")
                registry.first(["node.online"], "far", seen.at)
                return seen.at - at, seen
            finally:
                node.kill()
                node.communicate(timeout=10)


def cut(network: Network, state: str) -> None:
    subprocess.run([find("ip") or "ip", "-n", network.name, "link", "set", "cable", state], check=True)


def test_a_node_whose_cable_was_pulled_is_missed_by_its_heartbeat_and_comes_back() -> None:
    need("ip")
    took, seen = pulled()
    assert "timeout" in seen.node["reason"]
    assert TIMEOUT - HEARTBEAT - 0.1 <= took <= TIMEOUT + HEARTBEAT + 1.0


def table() -> None:
    print("| the node goes by | told first | after (median of 5) | how |\n|---|---|---|---|")
    with real_registry(*LIMITS) as registry:
        for row in ROWS:
            found = sorted((depart(registry, row, f"{row.how} {i}") for i in range(5)), key=lambda one: one[0])
            tell(row.how, *found[2])
    tell("cable pulled", *sorted((pulled() for _ in range(5)), key=lambda one: one[0])[2])


def tell(how: str, took: float, seen: Seen) -> None:
    print(f"| {how} | {seen.event} | {took * 1000:.1f} ms | {seen.node['reason']} |", flush=True)


if __name__ == "__main__":
    table()
