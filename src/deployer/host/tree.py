"""Everything that one instance started: the tree that must be gone before "exited" may be said."""

from __future__ import annotations

import os
from typing import Dict, List, Optional, Set, Tuple

from deployer.host.process import Handle, Processes, Stat
from deployer.model import Identity

ENGINE_MARK = b"DEPLOYER_ENGINE="
"""In the environment of our own processes: whoever started them, they are never part of an app's tree."""


class Tree:
    """
    The living processes of one instance, found again at each `refresh`.

    A process belongs to it if a member started it, if a member leads its session or process group, or if it carries the
    instance's id in its environment (double forks, setsid). Once a member, always a member, until it exits.
    """

    def __init__(self, processes: Processes, main: Identity, instance: Optional[str]) -> None:
        self._processes = processes
        self.main = main
        self._mark = f"DEPLOYER_INSTANCE={instance}".encode() if instance else None
        self._known: Dict[int, Identity] = {main.pid: main}
        self._handles: Dict[int, Handle] = {}
        self._strangers: Set[Tuple[int, int]] = set()

    def refresh(self) -> List[Stat]:
        """The members alive now, the main process first, then by age."""
        if self.main.boot != self._processes.boot:
            return []
        table = self._processes.table()
        members = self._grow(self._seeds(table), table)
        for pid in members:
            self._remember(table[pid])
        self._forget(members)
        return sorted((table[pid] for pid in self._handles), key=lambda s: (s.pid != self.main.pid, s.start, s.pid))

    def remember(self, identity: Identity) -> None:
        """Count *identity* as a member, as an earlier keeper did."""
        self._known.setdefault(identity.pid, identity)

    def main_alive(self) -> bool:
        """Whether the main process itself still runs."""
        return self._processes.alive(self.main)

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
            stat.pid for stat in living if self._is_known(stat) or self._is_led(stat, table) or self._is_marked(stat)
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
        # The kernel keeps the number of a session or group taken while it has members; only a live pid can be a stranger's.
        holder = table.get(pid)
        return holder is None or holder.start == known.start

    def _is_marked(self, stat: Stat) -> bool:
        if self._mark is None or (stat.pid, stat.start) in self._strangers:
            return False
        environ = self._processes.environ(stat.pid)
        if self._mark in environ.split(b"\0") and not _is_engine(environ):
            return True
        if stat.ppid != os.getpid():  # a fork of ours that has not reached its exec yet has our environment, for now
            self._strangers.add((stat.pid, stat.start))
        return False

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
        if pid in self._handles or pid == self.main.pid:
            return True
        return pid != os.getpid() and not _is_engine(self._processes.environ(pid))

    def _remember(self, stat: Stat) -> None:
        if self._is_known(stat) and stat.pid in self._handles:
            return
        identity = Identity(stat.pid, stat.start, self._processes.boot)
        self._drop(stat.pid)
        handle = self._processes.open(identity)
        if handle is not None:
            self._known[stat.pid] = identity
            self._handles[stat.pid] = handle

    def _forget(self, members: Set[int]) -> None:
        for pid in [pid for pid, handle in self._handles.items() if pid not in members or handle.exited()]:
            self._drop(pid)

    def _drop(self, pid: int) -> None:
        handle = self._handles.pop(pid, None)
        if handle is not None:
            handle.close()


def _is_engine(environ: bytes) -> bool:
    return environ.startswith(ENGINE_MARK) or b"\0" + ENGINE_MARK in environ
