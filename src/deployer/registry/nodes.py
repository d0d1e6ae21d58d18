"""
Nodes, pools and their index as a pure state machine: no I/O, time is a parameter, what happened is returned.

Whatever changes a node ends in `_settle`, which alone moves it into pools and out of them: a node that has gone is
out of every pool in the same step.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from deployer.registry.node import (
    DRAINING,
    NOBODY,
    OFFLINE,
    ONLINE,
    Event,
    Mark,
    Moment,
    Node,
    Process,
    Work,
)

REMEMBERED = 20_000
"""Offline nodes that are kept at most: whoever registers under a new name each time cannot fill our memory."""


@dataclass(frozen=True)
class Registered:
    """What a registration changed: `replaced` is the connection that no longer counts, `mark_ended` a mark of the last process."""

    events: list[Event]
    replaced: int | None = None
    mark_ended: Mark | None = None
    draining: bool = False


@dataclass
class Swept:
    """What a sweep found wrong and put right (it should find nothing), and how many nodes it forgot."""

    found: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    forgotten: int = 0


class Nodes:
    """Every known node, the pools, and who was heard when."""

    def __init__(self, forget_after: float = 86400.0) -> None:
        self._forget_after = forget_after
        self._nodes: dict[str, Node] = {}
        self._pools: dict[str, set[str]] = {}
        self._orders: dict[str, list[tuple[float, str]]] = {}  # load and id, of the pools that somebody asks for
        self._of: dict[int, Node] = {}  # the node of each connection that counts
        self._heard: OrderedDict[int, float] = OrderedDict()  # connections, the longest silent first

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, id: str) -> bool:
        return id in self._nodes

    # What is asked

    def node(self, id: str) -> Node | None:
        return self._nodes.get(id)

    def of(self, connection: int) -> Node | None:
        """The node whose present connection that is; None for one that was replaced."""
        return self._of.get(connection)

    def all(self) -> Iterable[Node]:
        return self._nodes.values()

    def ids(self) -> list[str]:
        return sorted(self._nodes)

    def pools(self) -> list[str]:
        return sorted(self._pools)

    def pool(self, name: str) -> list[str]:
        """The ids in it that take work, the least busy first."""
        order = self._orders.get(name)
        if order is None:
            order = sorted((self._nodes[id].load, id) for id in self._pools.get(name, ()))
            if order:
                self._orders[name] = order
        return [id for _, id in order]

    def sizes(self) -> Mapping[str, int]:
        """How many take work, by pool."""
        return {pool: len(members) for pool, members in self._pools.items()}

    # What happens

    def register(self, id: str, process: Process, connection: int, address: str, now: Moment) -> Registered:
        """*connection* speaks for node *id* from now on; an older one no longer does."""
        node = self._nodes.get(id)
        if node is None:
            node = self._nodes[id] = Node(id, process, now.wall)
        replaced = self._let_go(node)
        ended = node.mark if node.mark is not None and node.mark.ended_by(process.instance) else None
        self._leave_pools(node)
        node.mark = None if ended else node.mark
        node.process, node.work, node.leaving = process, process.work, process.leaving
        node.connection, node.address, node.status = connection, address, OFFLINE
        self._of[connection] = node
        self._heard[connection] = now.mono
        events = self._settle(node, now, _why_so(node, replaced))
        return Registered(events, replaced, ended, draining=node.mark is not None)

    def belongs_to_another(self, id: str, process: Process) -> bool:
        """Whether another process has this id, and *process* would not take it from it."""
        node = self._nodes.get(id)
        connected = node is not None and node.connection is not None
        return process.yields and connected and self._nodes[id].process.instance != process.instance

    def heard(self, connection: int, now: Moment) -> None:
        """Anything that the node said: it is there."""
        if connection in self._of:
            self._heard[connection] = now.mono
            self._heard.move_to_end(connection)

    def works(self, connection: int, work: Work) -> list[Event]:
        node = self._of.get(connection)
        if node is None:
            return []
        before, load = node.work, node.load
        node.work = work
        self._reorder(node, load)
        return [Event("node.busy", node.to_json())] if work.differs(before) else []

    def leaves(self, connection: int, why: str, now: Moment) -> list[Event]:
        """The node says that it takes no more work."""
        node = self._of.get(connection)
        if node is None:
            return []
        node.leaving = True
        return self._settle(node, now, why)

    def closed(self, connection: int, reason: str, now: Moment) -> list[Event]:
        """The connection has ended. Nothing changes when another one speaks for the node by now."""
        node = self._of.get(connection)
        self._heard.pop(connection, None)
        if node is None:
            return []
        self._let_go(node)
        node.left_at = now.mono
        return self._settle(node, now, reason)

    def mark(self, id: str, mark: Mark, now: Moment) -> list[Event]:
        """Out of every pool until the mark ends. KeyError for an unknown node."""
        node = self._nodes[id]
        node.mark = mark
        return self._settle(node, now, f"marked by {mark.by}") or [Event("node.marked", node.to_json())]

    def unmark(self, id: str, now: Moment) -> list[Event]:
        node = self._nodes[id]
        if node.mark is None:
            return []
        node.mark = None
        return self._settle(node, now, None) or [Event("node.unmarked", node.to_json())]

    def remember(self, id: str, mark: Mark, now: Moment) -> None:
        """A mark from before a restart: the node is known, and offline until it comes back."""
        self._nodes[id] = Node(
            id, NOBODY, now.wall, mark=mark, reason="not seen since the registry started", left_at=now.mono
        )

    # What time brings

    def longest_silent(self) -> tuple[int, float] | None:
        """The connection that has been silent longest, and since when."""
        return next(iter(self._heard.items()), None)

    def excuse(self, now: Moment) -> None:
        """Nobody counts as silent: it was us who did not listen."""
        for connection in self._heard:
            self._heard[connection] = now.mono

    def sweep(self, alive: Collection[int], now: Moment) -> Swept:
        """Whatever does not fit the nodes and their *alive* connections is put right and told; old nodes are forgotten."""
        swept = Swept()
        self._sweep_connections(alive, swept, now)
        self._sweep_pools(swept)
        self._forget(swept, now)
        return swept

    def _sweep_connections(self, alive: Collection[int], swept: Swept, now: Moment) -> None:
        for node in self._nodes.values():
            if node.connection is not None and node.connection not in alive:
                swept.found.append(f"{node.id} was {node.status} without a connection")
                self._let_go(node)
                node.left_at = now.mono
            if node.connection is not None and self._of.get(node.connection) is not node:
                swept.found.append(f"{node.id} was not known by its connection")
                self._of[node.connection] = node
                self._heard.setdefault(node.connection, now.mono)
            if node.status != node.standing:
                reason = "lost: found by the sweep" if node.standing == OFFLINE else node.reason
                swept.events += self._settle(node, now, reason)

    def _sweep_pools(self, swept: Swept) -> None:
        should: dict[str, set[str]] = {}
        for node in self._nodes.values():
            for pool in node.process.pools:
                members = should.setdefault(pool, set())
                if node.standing == ONLINE:
                    members.add(node.id)
        for pool in should.keys() | self._pools.keys():
            swept.found += _differences(pool, self._pools.get(pool, set()), should.get(pool, set()))
        self._pools = should
        self._orders.clear()

    def _forget(self, swept: Swept, now: Moment) -> None:
        gone = [node for node in self._nodes.values() if node.connection is None and node.mark is None]
        gone.sort(key=lambda node: node.left_at)
        too_many = max(0, len(gone) - REMEMBERED)
        for place, node in enumerate(gone):
            if place < too_many or now.mono - node.left_at >= self._forget_after:
                del self._nodes[node.id]
                swept.forgotten += 1
        if swept.forgotten:
            named = {pool for node in self._nodes.values() for pool in node.process.pools}
            self._pools = {pool: members for pool, members in self._pools.items() if pool in named}

    # The only two hands

    def _let_go(self, node: Node) -> int | None:
        """The connection that spoke for *node* until now; what it says from here on changes nothing."""
        connection, node.connection = node.connection, None
        if connection is not None:
            self._of.pop(connection, None)
            self._heard.pop(connection, None)
        return connection

    def _settle(self, node: Node, now: Moment, reason: str | None) -> list[Event]:
        """Status and pools follow from what is known of *node*; tells when the status has changed."""
        before, node.status = node.status, node.standing
        if node.status == ONLINE:
            self._join_pools(node)
        else:
            self._leave_pools(node)
        if node.status == before:
            return []
        node.since, node.reason = now.wall, reason
        name = "node.resumed" if (before, node.status) == (DRAINING, ONLINE) else f"node.{node.status}"
        return [Event(name, node.to_json())]

    def _join_pools(self, node: Node) -> None:
        for pool in node.process.pools:
            members = self._pools.setdefault(pool, set())
            if node.id not in members:
                members.add(node.id)
                self._rank(pool, node.load, node.id)

    def _leave_pools(self, node: Node) -> None:
        for pool in node.process.pools:
            members = self._pools.setdefault(pool, set())
            if node.id in members:
                members.discard(node.id)
                self._unrank(pool, node.load, node.id)

    def _reorder(self, node: Node, load: float) -> None:
        """*node* had that load until now. Sorting ten thousand anew for each question took 25 ms."""
        if node.load != load and node.status == ONLINE:
            for pool in node.process.pools:
                self._unrank(pool, load, node.id)
                self._rank(pool, node.load, node.id)

    def _rank(self, pool: str, load: float, id: str) -> None:
        if pool in self._orders:
            insort(self._orders[pool], (load, id))

    def _unrank(self, pool: str, load: float, id: str) -> None:
        order = self._orders.get(pool, [])
        place = bisect_left(order, (load, id))
        if place < len(order) and order[place] == (load, id):
            del order[place]


def _why_so(node: Node, replaced: int | None) -> str | None:
    """The reason of a node that has just registered."""
    if node.mark is not None:
        return f"marked by {node.mark.by}"
    return "in place of an older connection" if replaced is not None else None


def _differences(pool: str, was: set[str], should: set[str]) -> list[str]:
    found = [f"{id} was in pool {pool} without belonging there" for id in sorted(was - should)]
    if should and not was:
        return [*found, f"pool {pool} was empty: rebuilt from {len(should)} nodes"]
    return found + [f"{id} was missing in pool {pool}" for id in sorted(should - was)]
