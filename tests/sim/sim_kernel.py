"""
A kernel that exists only here: processes, signals, exits, orphans, numbers that are used anew. Nothing happens by itself:
`happen` runs what is due.
"""

from __future__ import annotations

import heapq
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from deployer.host.process import Stat

INIT = 1
NUMBERS_GO_ROUND_IN = 27.0
"""Seconds of the fastest spawning until a number may be used anew; the engine relies on it (tree.STRANGERS_FOR)."""


@dataclass(eq=False)
class Process:
    """One process for all time. `instance` is whose it is by ancestry: None for strangers and for the engine."""

    pid: int
    ppid: int
    sid: int
    start: int
    born: float
    name: str
    environ: bytes = b""
    instance: str | None = None
    main: bool = False
    reaps_orphans: bool = False
    code: int | None = None
    """How it ended; None while it lives. A zombie has a code and is still in the table."""
    on_signal: Callable[[int], None] | None = None
    quiet: bool = False
    """It was asked to take no new work, and will not take any for as long as it lives."""

    @property
    def alive(self) -> bool:
        return self.code is None

    @property
    def stat(self) -> Stat:
        state = "S" if self.code is None else "Z"
        return Stat(self.pid, self.ppid, self.sid, self.sid, state, 1, self.start, self.name)


@dataclass(frozen=True)
class Sent:
    """One signal that went out, as only the kernel can know it."""

    at: float
    process: Process
    signum: int


@dataclass(eq=False)
class Kernel:
    """
    The process table and what is going to happen in it. `on_exit` is told of every exit, `on_child` when a living parent
    has a zombie to bury, `on_signal` of every signal before it is heard.
    """

    now: Callable[[], float]
    on_exit: Callable[[Process], None]
    on_child: Callable[[Process], None]
    on_signal: Callable[[Process, int], None]
    boot: int = 1
    booted: float = 0.0
    table: dict[int, Process] = field(default_factory=dict)
    everyone: list[Process] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    coveted: set[int] = field(default_factory=set)
    tired: set[str] = field(default_factory=set)
    """Programs that have crashed once, and do not any more."""
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: int = 0
    last_pid: int = 5000

    def __post_init__(self) -> None:
        self.table[INIT] = Process(INIT, 0, INIT, 0, 0.0, "init")

    # What will happen ------------------------------------------------------------------------------------------------

    def after(self, delay: float, act: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._due, (self.now() + delay, self._order, act))

    def next_event(self) -> float | None:
        return self._due[0][0] if self._due else None

    def happen(self) -> None:
        """Everything that is due by now."""
        while self._due and self._due[0][0] <= self.now():
            heapq.heappop(self._due)[2]()

    # Processes -------------------------------------------------------------------------------------------------------

    def spawn(
        self, name: str, parent: Process | None = None, pid: int | None = None, sid: int | None = None
    ) -> Process:
        """A new process, in a session of its own unless *sid* names one; a child of init where no parent is given."""
        number = self._free_number() if pid is None else pid
        start = int((self.now() - self.booted) * 100)
        made = Process(number, parent.pid if parent else INIT, sid or number, start, self.now(), name)
        self.table[number] = made
        self.everyone.append(made)
        return made

    def _free_number(self) -> int:
        self.last_pid += 1
        while self.last_pid in self.table or self.last_pid in self.coveted:
            self.last_pid += 1
        return self.last_pid

    def exit(self, process: Process, code: int) -> None:
        if not process.alive:
            return
        process.code = code
        for child in [one for one in self.table.values() if one.ppid == process.pid]:
            self._give_away(child, process)
        self.on_exit(process)
        self._parted(process)

    def _give_away(self, child: Process, dead: Process) -> None:
        """An orphan comes to the nearest living ancestor that takes orphans, else to init."""
        parent = self.table.get(dead.ppid)
        while parent is not None and parent.pid != INIT and not (parent.alive and parent.reaps_orphans):
            parent = self.table.get(parent.ppid)
        child.ppid = parent.pid if parent is not None else INIT
        if not child.alive:
            self._parted(child)

    def _parted(self, zombie: Process) -> None:
        parent = self.table.get(zombie.ppid)
        if parent is not None and parent.alive and parent.reaps_orphans:
            self.on_child(parent)
        else:  # init buries at once, and so does every parent of ours that is no keeper
            self.bury(zombie)

    def bury(self, zombie: Process) -> None:
        """The number is free from here on; who wanted it has it."""
        if self.table.get(zombie.pid) is not zombie:
            return
        del self.table[zombie.pid]
        if zombie.pid in self.coveted:
            self.coveted.discard(zombie.pid)
            self.stranger(zombie.pid)

    def stranger(self, pid: int | None = None) -> Process:
        """Somebody else's process, with a child of its own."""
        made = self.spawn("stranger", pid=pid)
        made.environ = b"HOME=/home/somebody"
        child = self.spawn("stranger's child", made, sid=made.sid)
        child.environ = made.environ
        return made

    def covet(self, process: Process) -> bool:
        """Let a stranger have the number of *process* once it is free; False where numbers cannot have gone round yet."""
        if self.now() - process.born < NUMBERS_GO_ROUND_IN:
            return False
        self.coveted.add(process.pid)
        return True

    def deliver(self, process: Process, signum: int) -> bool:
        """Whether the signal went out."""
        if not process.alive:
            return False
        self.sent.append(Sent(self.now(), process, signum))
        self.on_signal(process, signum)
        if signum == signal.SIGKILL:
            self.exit(process, -9)
        elif process.on_signal is not None:
            process.on_signal(signum)
        elif signum == signal.SIGTERM:
            self.exit(process, -15)
        return True

    def reboot(self) -> None:
        """All at once gone, nobody was asked; numbers and ticks begin anew."""
        for process in self.table.values():
            process.code = -9 if process.code is None else process.code
        self.table.clear()
        self._due.clear()
        self.coveted.clear()
        self.boot += 1
        self.booted = self.now()
        self.last_pid = 5000
        self.table[INIT] = Process(INIT, 0, INIT, 0, self.now(), "init")
