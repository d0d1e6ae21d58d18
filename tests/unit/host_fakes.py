"""A process table, handles and a clock that a test writes and moves by itself: no real process is touched."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from deployer.host.clock import Clock
from deployer.host.process import Handle, Processes, Stat
from deployer.host.tree import Tree
from deployer.model import Identity

KEEPER = 7
MARK = b"A=1\0DEPLOYER_INSTANCE=one\0"
OTHER = b"DEPLOYER_INSTANCE=two\0"


class FakeHandle(Handle):
    """A handle without a descriptor: what is sent through it stands in the table's `sent`."""

    def __init__(self, table: FakeTable, identity: Identity) -> None:
        super().__init__(identity, -1)
        self._table = table

    def exited(self, within: float = 0.0) -> bool:
        return not self._table.alive(self.identity)

    def send(self, signum: int) -> bool:
        if not self._table.alive(self.identity) or self.identity.pid in self._table.forbidden:
            return False
        self._table.sent.append((self.identity.pid, signum))
        return True


@dataclass
class Line:
    stat: Stat
    environ: bytes = b""


@dataclass
class FakeTable(Processes):
    """A process table that a test writes line by line."""

    lines: dict[int, Line] = field(default_factory=dict)
    boot: str = "this"
    descriptors: int = 1000
    forbidden: set[int] = field(default_factory=set)
    sent: list[tuple[int, int]] = field(default_factory=list)
    last: int | None = 900
    looked_at: list[int] = field(default_factory=list)

    def add(
        self, pid: int, ppid: int, sid: int = 0, start: int = 0, state: str = "S", environ: bytes = b""
    ) -> Identity:
        stat = Stat(pid, ppid, sid or pid, sid or pid, state, 1, start or pid, "x")
        self.lines[pid] = Line(stat, environ)
        return Identity(pid, stat.start, self.boot)

    def remove(self, pid: int, orphans_to: int = 1) -> None:
        """*pid* exits and is buried; its children are given to *orphans_to*."""
        del self.lines[pid]
        for line in self.lines.values():
            if line.stat.ppid == pid:
                line.stat = line.stat._replace(ppid=orphans_to)

    def last_pid(self) -> int | None:
        return self.last

    def stat(self, pid: int) -> Stat | None:
        return self.lines[pid].stat if pid in self.lines else None

    def table(self, skip: AbstractSet[int] = frozenset()) -> dict[int, Stat]:
        self.looked_at = [pid for pid in self.lines if pid not in skip]
        return {pid: self.lines[pid].stat for pid in self.looked_at}

    def environ(self, pid: int) -> bytes:
        return self.lines[pid].environ if pid in self.lines else b""

    def argv(self, pid: int) -> list[str]:
        return ["program", str(pid)]

    def open(self, identity: Identity) -> Handle | None:
        if self.descriptors <= 0 or not self.alive(identity):
            return None
        self.descriptors -= 1
        return FakeHandle(self, identity)


@dataclass
class FakeClock(Clock):
    """Time that stands still until a test moves it."""

    seconds: float = 1000.0

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return 1.7e9 + self.seconds


def service(mark: str | None = "one") -> tuple[FakeTable, Tree]:
    """A table with init, the keeper, a main process (100) in a session of its own, a stranger (900)."""
    table = FakeTable()
    table.add(1, 0)
    table.add(KEEPER, 1, environ=b"DEPLOYER_ENGINE=keeper\0")
    main = table.add(100, KEEPER, environ=MARK)
    table.add(900, 1, environ=b"HOME=/\0")
    return table, Tree(table, main, mark)
