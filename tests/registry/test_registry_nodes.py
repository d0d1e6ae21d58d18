"""The state machine: random histories, and the promises that must hold after every step of them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from deployer.registry.node import DRAINING, OFFLINE, ONLINE, PROCESS, Mark, Moment, Process, Work
from deployer.registry.nodes import REMEMBERED, Nodes

IDS = [f"node-{number}" for number in range(6)]
POOLS = ["workers", "mail", "gpu"]


def at(seconds: float) -> Moment:
    return Moment(seconds, 1_700_000_000 + seconds)


def process(instance: str = "p1", *pools: str, leaving: bool = False) -> Process:
    return Process(instance, pools or ("workers",), leaving=leaving)


def check(nodes: Nodes) -> None:
    """A pool holds its online nodes and no other; nobody is in two states at once."""
    for pool in POOLS:
        should = {node.id for node in nodes.all() if pool in node.process.pools and node.status == ONLINE}
        listed = nodes.pool(pool)
        assert set(listed) == should
        assert listed == sorted(should, key=lambda id: (nodes.node(id).load, id))  # type: ignore[union-attr]
    for node in nodes.all():
        assert node.status == node.standing
        assert (node.status == OFFLINE) == (node.connection is None)
        assert node.status != ONLINE or not (node.mark or node.leaving)
        assert node.connection is None or nodes.of(node.connection) is node


class History:
    """Random things that happen to a few nodes, with connections that close late and marks that come and go."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.nodes = Nodes(forget_after=500.0)
        self.now = 0.0
        self.connections = 0
        self.late: list[int] = []

    def step(self) -> None:
        self.now += self.dice.random() * 10
        self.dice.choice([self.register, self.register, self.close, self.close, self.close_late, self.mark, self.unmark,
                          self.leave, self.work, self.sweep])()  # fmt: skip

    def register(self) -> None:
        self.connections += 1
        pools = tuple(self.dice.sample(POOLS, self.dice.randint(0, 3)))
        capacity, work = self.dice.choice([None, 2, 4]), Work(self.dice.randint(0, 3))
        said = Process(self.dice.choice("ab"), pools, None, capacity, leaving=self.dice.random() < 0.1, work=work)
        done = self.nodes.register(self.dice.choice(IDS), said, self.connections, "", at(self.now))
        if done.replaced is not None:
            self.late.append(done.replaced)

    def live(self) -> list[int]:
        return [node.connection for node in self.nodes.all() if node.connection is not None]

    def close(self) -> None:
        for connection in self.dice.sample(self.live(), min(1, len(self.live()))):
            assert [event.name for event in self.nodes.closed(connection, "lost: x", at(self.now))] == ["node.offline"]
            self.late.append(connection)

    def close_late(self) -> None:
        for connection in self.late:
            assert self.nodes.closed(connection, "lost: late", at(self.now)) == []
            assert self.nodes.leaves(connection, "late", at(self.now)) == []
            assert self.nodes.works(connection, Work(7)) == []

    def mark(self) -> None:
        for node in self.some():
            scope = self.dice.choice(["node", PROCESS])
            self.nodes.mark(node, Mark("me", self.now, scope, self.nodes.node(node).process.instance), at(self.now))  # type: ignore[union-attr]

    def unmark(self) -> None:
        for node in self.some():
            self.nodes.unmark(node, at(self.now))

    def leave(self) -> None:
        for connection in self.live()[:1]:
            self.nodes.leaves(connection, "SIGTERM", at(self.now))

    def work(self) -> None:
        for connection in self.live():
            self.nodes.works(connection, Work(self.dice.randint(0, 3)))
            self.nodes.heard(connection, at(self.now))

    def sweep(self) -> None:
        assert self.nodes.sweep(self.live(), at(self.now)).found == []

    def some(self) -> list[str]:
        return self.dice.sample([node.id for node in self.nodes.all()], min(1, len(self.nodes)))


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(20, 500))])
def test_a_pool_holds_exactly_its_online_nodes_whatever_happened(seed: int) -> None:
    history = History(seed)
    for _ in range(200):
        history.step()
        check(history.nodes)
    assert history.connections > 10


@pytest.mark.parametrize("seed", range(20))
def test_sweep_repairs_a_corrupted_index_and_says_what_it_found(seed: int) -> None:
    history, dice = History(seed), random.Random(seed)
    for _ in range(100):
        history.step()
    nodes = history.nodes
    broken = corrupt(nodes, dice)
    swept = nodes.sweep(history.live(), at(history.now))
    assert len(swept.found) >= 1 if broken else swept.found == []
    check(nodes)
    assert nodes.sweep(history.live(), at(history.now)).found == []


def corrupt(nodes: Nodes, dice: random.Random) -> bool:
    """Damage the index as no code of ours does; whether there was anything to damage."""
    pools = nodes._pools
    before = {pool: set(members) for pool, members in pools.items()}
    for members in pools.values():
        members ^= set(dice.sample([node.id for node in nodes.all()], dice.randint(0, len(nodes))))
    return before != pools


def test_late_close_of_a_replaced_connection_changes_nothing() -> None:
    nodes = Nodes()
    nodes.register("n", process(), 1, "", at(0))
    done = nodes.register("n", process("p2"), 2, "", at(1))
    assert done.replaced == 1 and [event.name for event in done.events] == ["node.online"]
    assert nodes.closed(1, "lost: connection broken", at(2)) == []
    assert nodes.pool("workers") == ["n"]


def test_node_that_has_gone_is_out_of_every_pool_in_the_same_step() -> None:
    nodes = Nodes()
    nodes.register("n", process("p", "workers", "mail"), 1, "", at(0))
    (event,) = nodes.closed(1, "clean: stopped", at(1))
    assert event.node["status"] == OFFLINE and event.node["reason"] == "clean: stopped"
    assert nodes.pool("workers") == nodes.pool("mail") == []
    assert nodes.pools() == ["mail", "workers"]  # known, and empty


def test_mark_of_a_process_ends_when_another_process_registers_and_not_when_the_same_reconnects() -> None:
    nodes = Nodes()
    nodes.register("n", process("p1"), 1, "", at(0))
    nodes.mark("n", Mark("push", 0, PROCESS, "p1"), at(0))
    assert nodes.register("n", process("p1"), 2, "", at(1)).draining
    assert nodes.pool("workers") == []
    done = nodes.register("n", process("p2"), 3, "", at(2))
    assert done.mark_ended and not done.draining
    assert nodes.pool("workers") == ["n"]


def test_mark_of_a_node_outlives_its_processes() -> None:
    nodes = Nodes()
    nodes.register("n", process("p1"), 1, "", at(0))
    nodes.mark("n", Mark("me", 0), at(0))
    nodes.closed(1, "clean: stopped", at(1))
    done = nodes.register("n", process("p2"), 2, "", at(2))
    assert done.draining and done.events[0].node["status"] == DRAINING
    assert [event.name for event in nodes.unmark("n", at(3))] == ["node.resumed"]
    assert nodes.pool("workers") == ["n"]


def test_taking_a_mark_away_does_not_resume_what_said_that_it_leaves() -> None:
    nodes = Nodes()
    nodes.register("n", process(), 1, "", at(0))
    nodes.mark("n", Mark("me", 0), at(0))
    nodes.leaves(1, "SIGTERM", at(1))
    nodes.unmark("n", at(2))
    assert nodes.node("n").status == DRAINING  # type: ignore[union-attr]


def test_pool_lists_the_least_busy_first_by_capacity() -> None:
    nodes = Nodes()
    for number, (busy, capacity) in enumerate([(3, 4), (1, None), (2, 8), (0, 1)]):
        nodes.register(f"n{number}", replace(process(), capacity=capacity, work=Work(busy)), number + 1, "", at(0))
    assert nodes.pool("workers") == ["n3", "n2", "n0", "n1"]


def test_the_longest_silent_is_first_and_one_that_was_heard_is_last() -> None:
    nodes = Nodes()
    for number in (1, 2, 3):
        nodes.register(f"n{number}", process(), number, "", at(number))
    nodes.heard(1, at(10))
    assert nodes.longest_silent() == (2, 2.0)
    nodes.closed(2, "lost: x", at(11))
    assert nodes.longest_silent() == (3, 3.0)


def test_offline_nodes_are_forgotten_and_marked_ones_are_not() -> None:
    nodes = Nodes(forget_after=100)
    for number, id in enumerate(["gone", "marked", "here"]):
        nodes.register(id, process("p", f"pool-{id}"), number, "", at(0))
    nodes.mark("marked", Mark("me", 0), at(0))
    nodes.closed(0, "clean: stopped", at(1))
    nodes.closed(1, "clean: stopped", at(1))
    assert nodes.sweep([2], at(50)).forgotten == 0
    assert nodes.sweep([2], at(200)).forgotten == 1
    assert sorted(node.id for node in nodes.all()) == ["here", "marked"]
    assert nodes.pools() == ["pool-here", "pool-marked"]


def test_names_of_nodes_that_never_come_back_cannot_fill_the_memory() -> None:
    nodes = Nodes()
    for number in range(REMEMBERED + 5):
        nodes.register(f"n{number}", process(), number, "", at(number))
        nodes.closed(number, "lost: x", at(number))
    assert nodes.sweep([], at(REMEMBERED)).forgotten == 5
    assert "n4" not in nodes and "n5" in nodes


def test_sweep_finds_a_node_whose_connection_is_gone() -> None:
    nodes = Nodes()
    nodes.register("n", process(), 1, "", at(0))
    swept = nodes.sweep([], at(1))
    assert swept.found == ["n was online without a connection"]
    assert [event.name for event in swept.events] == ["node.offline"] and nodes.pool("workers") == []


def test_sweep_rebuilds_an_emptied_pool() -> None:
    nodes = Nodes()
    nodes.register("a", process(), 1, "", at(0))
    nodes.register("b", process(), 2, "", at(0))
    nodes._pools["workers"].clear()
    assert nodes.sweep([1, 2], at(1)).found == ["pool workers was empty: rebuilt from 2 nodes"]
    assert nodes.pool("workers") == ["a", "b"]
