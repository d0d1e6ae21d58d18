"""The registry: its nodes, who is connected, and who is told. All in one loop, in one thread."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from deployer.registry import messages
from deployer.registry.api import Api
from deployer.registry.door import Door
from deployer.registry.feed import Feed
from deployer.registry.marks import Marks, NotWritten
from deployer.registry.metrics import Counts, page
from deployer.registry.node import OFFLINE, ONLINE, Event, Mark, Moment, Process
from deployer.registry.node_link import REPLACED, RESTART, SILENT, NodeLink
from deployer.registry.nodes import Nodes
from deployer.registry.reading import EventReader
from deployer.registry.settings import Settings

Say = Callable[[str, dict[str, Any]], None]
"""An event for the log: its name and what belongs to it."""
COMMENT = 15.0
"""Seconds between two signs of life to readers of events."""
_CHUNK = 16 * 1024
_NODE_CHUNK = 4 * 1024


class Registry:
    """Everything that doors and links share. `start` binds, `stop` says goodbye to all."""

    def __init__(self, settings: Settings, marks: Marks, say: Say) -> None:
        self.settings = settings
        self.say = say
        self.nodes = Nodes(settings.forget)
        self.links: dict[int, NodeLink] = {}
        self.doors: set[Door] = set()
        self.feed = Feed(first=int(time.time() * 1000))
        self.counts = Counts()
        self.api = Api(self)
        self.loop = asyncio.get_running_loop()
        self.later = self.loop.call_later
        # Read into by one connection after the other, each of which is done with it before the next one reads.
        # A node's is small, so that its flood of tiny frames costs the others no more than this at a time.
        self.buffer = memoryview(bytearray(_CHUNK))
        self.node_buffer = self.buffer[:_NODE_CHUNK]
        self._marks = marks
        self._started_at = time.monotonic()
        self._numbers = itertools.count(1)
        self._watch: asyncio.TimerHandle | None = None
        self._leaving = False
        self.emptied = asyncio.Event()  # every node has gone, after end_all
        self._chores: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()
        for id, mark in marks.all().items():
            self.nodes.remember(id, mark, moment())
        self._every(settings.sweep, self.sweep)
        self._every(COMMENT, self.feed.breathe)

    def number(self) -> int:
        """The number of a new connection of a node."""
        self.counts.accepted += 1
        return next(self._numbers)

    # What links tell

    def registered(self, link: NodeLink, id: str, process: Process) -> None:
        if self.nodes.belongs_to_another(id, process):
            link.registered = False
            link.close(REPLACED, "another connection has this id")
            return
        done = self.nodes.register(id, process, link.number, link.address, moment())
        if done.replaced is not None:
            self.counts.replaced += 1
            self._close(done.replaced, REPLACED, "replaced: another connection has this id")
        if done.mark_ended is not None:
            self._forget_mark(id, done.mark_ended)
        link.send(
            {
                "type": "welcome", "v": messages.VERSION, "heartbeat_s": self.settings.heartbeat,
                "timeout_s": self.settings.timeout, "draining": done.draining,
            }
        )  # fmt: skip
        self._tell(done.events)
        self._watch_the_silent()

    def said(self, link: NodeLink, message: dict[str, Any]) -> None:
        self.counts.messages += 1
        now, kind = moment(), message.get("type")
        self.nodes.heard(link.number, now)
        if kind == "heartbeat":
            self._tell(self.nodes.works(link.number, messages.work(message)))
        elif kind == "draining":
            self._tell(self.nodes.leaves(link.number, messages.why(message) or "it said so", now))
        elif kind == "register":
            raise messages.Malformed("a connection registers once")
        # Anything else is a word of a newer agent.

    def gone(self, link: NodeLink, reason: str) -> None:
        """The node's connection has ended, whatever its socket still does."""
        started = time.perf_counter()
        events = self.nodes.closed(link.number, reason, moment())
        if events:
            self.counts.went_offline(time.perf_counter() - started)
            self.counts.departures[reason.partition(":")[0]] += 1
        if not self._leaving:
            self._tell(events)

    def closed(self, link: NodeLink) -> None:
        self.links.pop(link.number, None)
        if self._leaving and not self.links:
            self.emptied.set()

    def count(self, refusal: str) -> None:
        self.counts.refusals[refusal] += 1

    def count_answer(self, status: int) -> None:
        self.counts.answers[status] += 1

    def slow_reader(self, reader: EventReader) -> None:
        self.feed.leave(reader)
        self.counts.slow_readers += 1
        self.say("registry.reader_cut_off", {"reason": "it did not read /events as fast as things happened"})

    # What admins ask

    async def mark(self, id: str, by: str, scope: str) -> bool:
        """Whether there is such a node; it is out of every pool when this returns. Raises NotWritten."""
        node = self.nodes.node(id)
        if node is None:
            return False
        mark = Mark(by, time.time(), scope, node.process.instance or None)
        await self._marks.put(id, mark)
        if id not in self.nodes:
            self.nodes.remember(id, mark, moment())  # forgotten while the disk was busy
        node = self.nodes.node(id)
        if node is None or mark.ended_by(node.process.instance):
            self._forget_mark(id, mark)  # the process that was meant has gone meanwhile
            return True
        self._tell(self.nodes.mark(id, mark, moment()))
        self._send_to(node.connection, {"type": "drain", "by": by})
        return True

    async def unmark(self, id: str) -> bool:
        await self._marks.drop(id)
        node = self.nodes.node(id)
        if node is None:
            return False
        by = node.mark.by if node.mark else "an admin"
        events = self.nodes.unmark(id, moment())
        self._tell(events)
        if events:
            self._send_to(node.connection, {"type": "resume", "by": by})
        return True

    def documents(self) -> Iterator[dict[str, Any]]:
        """Every node by its name, each as it is when it is asked for."""
        for id in self.nodes.ids():
            node = self.nodes.node(id)
            if node is not None:
                yield node.to_json()

    def statuses(self) -> Counter[str]:
        counted = Counter(dict.fromkeys((ONLINE, "draining", OFFLINE), 0))
        counted.update(node.status for node in self.nodes.all())
        return counted

    def health(self) -> dict[str, Any]:
        status = "shutting_down" if self._leaving else "ok"
        return {"status": status, "nodes": len(self.nodes), **self.statuses(), "connections": len(self.links)}

    def metrics(self) -> str:
        kinds = {"node": len(self.links), "http": len(self.doors), "events": len(self.feed)}
        return page(self.counts, self.statuses(), self.nodes.sizes(), kinds, time.monotonic() - self._started_at)

    # What time brings

    def sweep(self) -> None:
        swept = self.nodes.sweep(self.links, moment())
        self.counts.sweeps += 1
        self.counts.repairs += len(swept.found)
        for found in swept.found:
            self.say("registry.swept", {"found": found})
        self._tell(swept.events)

    def _watch_the_silent(self) -> None:
        """One timer for all: it is due when the one that has been silent longest is."""
        longest = self.nodes.longest_silent()
        if self._watch is None and longest is not None:
            self._watch = self.loop.call_at(longest[1] + self.settings.timeout, self._end_the_silent)

    def _end_the_silent(self) -> None:
        due = self._watch.when() if self._watch else 0.0
        self._watch, now = None, moment()
        if now.mono - due > self.settings.heartbeat:
            # We were stopped, or the machine was: what the nodes said meanwhile may still be on its way to us.
            self.say("registry.stalled", {"seconds": round(now.mono - due, 1)})
            self.nodes.excuse(now)
        while (silent := self.nodes.longest_silent()) and now.mono - silent[1] >= self.settings.timeout:
            self._give_up(silent[0])
        self._watch_the_silent()

    def _give_up(self, connection: int) -> None:
        reason = f"no heartbeat for {self.settings.timeout:g}s"
        link = self.links.get(connection)
        if link is not None and link.registered:
            link.end(SILENT, reason)
        else:
            self._tell(self.nodes.closed(connection, f"timeout: {reason}", moment()))

    # Beginning and end

    def end_all(self) -> None:
        """Every node is told to come back later, every reader that this was all."""
        self._leaving = True
        for timer in [*self._chores, self._watch]:
            if timer is not None:
                timer.cancel()
        self.feed.end()
        for link in list(self.links.values()):
            link.close(RESTART, "the registry restarts")
        for door in list(self.doors):
            door.close()
        if not self.links:
            self.emptied.set()

    def abort_all(self) -> None:
        for link in list(self.links.values()):
            link.abort()

    # Inside

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            self.feed.publish(event.name, event.node)
            self.say(event.name, event.node)

    def _close(self, connection: int, code: int, reason: str) -> None:
        link = self.links.get(connection)
        if link is not None:
            link.registered = False
            link.close(code, reason)

    def _send_to(self, connection: int | None, message: dict[str, Any]) -> None:
        link = self.links.get(connection) if connection is not None else None
        if link is not None:
            link.send(message)

    def _forget_mark(self, id: str, mark: Mark) -> None:
        """The mark has ended by itself. Should the disk refuse this, the next start sees by the mark's process that it has."""

        async def forget() -> None:
            try:
                await self._marks.drop(id, mark)
            except NotWritten as error:
                self.say(
                    "registry.trouble", {"what": f"the ended mark of {id} is still on the disk", "why": str(error)}
                )

        task = self.loop.create_task(forget())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _every(self, seconds: float, chore: Callable[[], None]) -> None:
        place = len(self._chores)

        def again() -> None:
            self._chores[place] = self.later(seconds, again)
            chore()

        self._chores.append(self.later(seconds, again))


def moment() -> Moment:
    return Moment(time.monotonic(), time.time())
