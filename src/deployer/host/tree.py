"""Everything that one instance started: the tree that must be gone before "exited" may be said."""

from __future__ import annotations

from typing import Dict, List, Optional, Set, Tuple

from deployer.host.clock import Clock
from deployer.host.process import Handle, Processes, Stat
from deployer.model import Identity

ENGINE_MARK = b"DEPLOYER_ENGINE="
"""In the environment of our own processes: whoever started them, they are never part of an app's tree."""
INSTANCE_MARK = b"DEPLOYER_INSTANCE="
"""In the environment of everything that an instance started and that did not clear it."""
STRANGERS_FOR = 5.0
"""Seconds for which a stranger may be passed over: the fastest spawning known needs 27 s for all numbers to go round once."""


class Tree:
    """
    The living processes of one instance, found again at each `refresh`.

    A process belongs to it if a member started it, if a member leads its session or process group, or if it carries
    the instance's id in its environment (double forks, setsid). Once a member, always a member, until it exits. Where
    `reaper` is set, an orphan that came to that process belongs to it too: a double fork may clear its environment.
    """

    def __init__(
        self, processes: Processes, main: Identity, instance: Optional[str], clock: Optional[Clock] = None
    ) -> None:
        self._processes = processes
        self._clock = clock or Clock()
        self.main = main
        self._mark = INSTANCE_MARK + instance.encode() if instance else None
        self._known: Dict[int, Identity] = {main.pid: main}
        self._handles: Dict[int, Handle] = {}
        self._strangers: Set[Tuple[int, int]] = set()
        self.reaper: Optional[int] = None
        self._full_look_at = float("-inf")
        self._numbers: Tuple[Optional[int], Optional[int]] = (None, None)
        self._looked_with: Optional[int] = None

    def refresh(self) -> List[Stat]:
        """The members alive now, the main process first, then by age."""
        if self.main.boot != self._processes.boot:
            return []
        table = self._look()
        members = self._grow(self._seeds(table), table)
        for pid in members:
            self._remember(table[pid])
        self._forget(members, table)
        alive = (table[pid] for pid in members if self._still_there(table[pid]))
        return sorted(alive, key=lambda stat: (not self.is_main(stat), stat.start, stat.pid))

    def _look(self) -> Dict[int, Stat]:
        # Most of the table is strangers, and reading it is most of the time between an exit and the next step. A stranger stays
        # one until its number may have been given to somebody else, so that a look soon after another passes it over.
        now, before, last = self._clock.now(), self._numbers[0], self._processes.last_pid()
        self._numbers = (self._numbers[1], last)  # from the look before: a process may show in the table a moment late
        fresh = now - self._full_look_at < STRANGERS_FOR and self._looked_with == self.reaper
        if fresh and before is not None and last is not None:
            passed = (pid for pid, _ in self._strangers if not _given_out(pid, before, last))
            return self._processes.table({pid for pid in passed if pid not in self._known})
        self._full_look_at, self._looked_with = now, self.reaper
        table = self._processes.table()
        self._strangers = {(pid, start) for pid, start in self._strangers if pid in table and table[pid].start == start}
        return table

    def remember(self, identity: Identity) -> None:
        """Count *identity* as a member, as an earlier keeper did."""
        self._known.setdefault(identity.pid, identity)

    def is_main(self, stat: Stat) -> bool:
        """Whether *stat* is the main process, and not another one with its number."""
        return (stat.pid, stat.start) == (self.main.pid, self.main.start)

    def main_alive(self) -> bool:
        """Whether the main process itself still runs."""
        return self._processes.alive(self.main)

    def bury_main(self) -> Optional[int]:
        """The exit code of the main process; None while it runs. Raises ChildProcessError where it is not our child."""
        return self._processes.bury(self.main.pid)

    def handles(self) -> List[Handle]:
        """A pollable handle of each member that `refresh` last saw."""
        return list(self._handles.values())

    def handle(self, pid: int) -> Optional[Handle]:
        return self._handles.get(pid)

    def describe(self, stat: Stat) -> Dict[str, object]:
        """A member for a person: pid and command."""
        return {"pid": stat.pid, "command": self._processes.command(stat.pid)}

    def close(self) -> None:
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()

    def _seeds(self, table: Dict[int, Stat]) -> Set[int]:
        living = (stat for stat in table.values() if not stat.exited)
        return {
            stat.pid
            for stat in living
            if self._is_known(stat) or self._is_led(stat, table) or self._is_marked(stat) or self._came_to_us(stat)
        }

    def _is_known(self, stat: Stat) -> bool:
        known = self._known.get(stat.pid)
        return known is not None and known.start == stat.start

    def _is_led(self, stat: Stat, table: Dict[int, Stat]) -> bool:
        return self._leads(stat.sid, table) or self._leads(stat.pgid, table)

    def _leads(self, pid: int, table: Dict[int, Stat]) -> bool:
        known = self._known.get(pid)
        if known is None or pid <= 1:
            return False
        # The number of a session or group stays taken while it has members; only a live pid can be a stranger's.
        holder = table.get(pid)
        return holder is None or holder.start == known.start

    def _is_marked(self, stat: Stat) -> bool:
        if self._mark is None or (stat.pid, stat.start) in self._strangers:
            return False
        environ = self._processes.environ(stat.pid)
        if self._mark in environ.split(b"\0") and not is_engine(environ):
            return True
        # Not said for ever of a fork of ours before its exec (it has our environment), nor of an orphan within its exec
        # (it has none, for now).
        if stat.ppid != self._processes.own_pid() and (environ or stat.ppid != 1):
            self._strangers.add((stat.pid, stat.start))
        return False

    def _came_to_us(self, stat: Stat) -> bool:
        if self.reaper is None or stat.ppid != self.reaper or stat.start < self.main.start:
            return False
        environ = self._processes.environ(stat.pid)
        return not is_engine(environ) and not _names(environ, INSTANCE_MARK)

    def _grow(self, seeds: Set[int], table: Dict[int, Stat]) -> Set[int]:
        children: Dict[int, List[int]] = {}
        for stat in table.values():
            if not stat.exited:
                children.setdefault(stat.ppid, []).append(stat.pid)
        members: Set[int] = set()
        frontier = [pid for pid in seeds if self._may_join(pid)]
        while frontier:
            pid = frontier.pop()
            if pid not in members:
                members.add(pid)
                frontier += [child for child in children.get(pid, ()) if self._may_join(child)]
        return members

    def _may_join(self, pid: int) -> bool:
        if pid in self._known:
            return True
        return pid != self._processes.own_pid() and not is_engine(self._processes.environ(pid))

    def _remember(self, stat: Stat) -> None:
        if self._is_known(stat) and stat.pid in self._handles:
            return
        identity = self._identity(stat)
        self._drop(stat.pid)
        self._known[stat.pid] = identity
        handle = self._processes.open(identity)
        if handle is not None:
            self._handles[stat.pid] = handle

    def _forget(self, members: Set[int], table: Dict[int, Stat]) -> None:
        for pid in [pid for pid, handle in self._handles.items() if pid not in members or handle.exited()]:
            self._drop(pid)
        # The number of one that has gone may be a stranger's tomorrow, unless a session or group keeps it taken.
        taken = members.union(*((table[pid].sid, table[pid].pgid) for pid in members))
        self._known = {pid: known for pid, known in self._known.items() if pid in taken}

    def _still_there(self, stat: Stat) -> bool:
        # Without a handle it has exited, or we have run out of descriptors: then it is looked up until there is one.
        return stat.pid in self._handles or self._processes.alive(self._identity(stat))

    def _identity(self, stat: Stat) -> Identity:
        return Identity(stat.pid, stat.start, self._processes.boot)

    def _drop(self, pid: int) -> None:
        handle = self._handles.pop(pid, None)
        if handle is not None:
            handle.close()


def _given_out(pid: int, before: int, last: int) -> bool:
    """Whether *pid* may have been given out after *before*, and up to *last*: numbers go up, and begin anew at the end."""
    return before < pid <= last if before <= last else pid > before or pid <= last


def is_engine(environ: bytes) -> bool:
    """Whether a process with *environ* is a part of deployer's own engine."""
    return _names(environ, ENGINE_MARK)


def _names(environ: bytes, mark: bytes) -> bool:
    return environ.startswith(mark) or b"\0" + mark in environ
