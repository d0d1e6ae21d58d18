"""
The simulated world: one clock, one kernel, one disk, the parts of the engine that live, and what will go wrong.

Single-threaded and without real time: time passes only in `pass_time`, to the next thing that is due. Before every effect the
part that makes it calls `effect`: there it may die, be overtaken, or find that something else has happened meanwhile.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim_disk import Disk
from sim_kernel import INIT, Kernel, Process
from sim_routine import Follower, Routine
from sim_settings import CEILING

from deployer.host.clock import Clock
from deployer.host.control import Asked, Control
from deployer.host.drain import CRASH

if TYPE_CHECKING:
    from sim_faults import Fault
    from sim_keeper import SimKeeper

EFFECTS_AT_MOST = 2000
TURNS_AT_MOST = 20000
ENDS_WITHIN = 40_000.0
"""Virtual seconds: the longest drain is 660 s, and a person may look in only after an hour, some times."""


class Died(BaseException):
    """A part of the engine was killed right here. Whatever it tries afterwards raises this again and has no effect."""


class Endless(BaseException):
    """The schedule does not come to an end."""


@dataclass(eq=False)
class Life:
    """One incarnation of a part of the engine: a keeper, a runner, an agent."""

    name: str
    role: str
    process: Process
    alive: bool = True


@dataclass(eq=False)
class World:
    """Everything that one schedule can touch. The same *seed* and *faults* make the same world do the same things."""

    seed: int
    faults: list[Fault] = field(default_factory=list)
    interleave: bool = True

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.time = 10_000.0
        self.kernel = Kernel(lambda: self.time, self._on_exit, self._on_child, self._on_signal, booted=self.time)
        self.disk = Disk()
        self.clock = SimClock(self)
        self.keeper: SimKeeper | None = None
        self.engine: Life | None = None
        """Who holds the deploy lock: the agent until the commit, the runner from there on."""
        self.routines: dict[Life, Routine] = {}
        """The runners that may go on beside others, once they have let go of the deploy lock."""
        self.followers: list[Follower] = []
        """Those of them that wait for something, without the deploy lock."""
        self.drain_locks: dict[str, Life] = {}
        """Deploy → who waits for its drains; it is free once that one is dead."""
        self.acting: Life | None = None
        """Whose turn it is."""
        self.effects = 0
        self.turns = 0
        self.waiting = sorted((fault for fault in self.faults if fault.text is None), key=lambda fault: fault.at)
        self.named = [fault for fault in self.faults if fault.text is not None]
        self.timed: list[tuple[float, Fault]] = []
        self.struck: list[tuple[str, Fault]] = []
        self.lines: list[tuple[int, float, str, str, Sequence[Any]]] = []
        self.deaths_before: list[tuple[str, Sequence[Any]]] = []
        """What a keeper was about to do when it died: windows in which nobody can know what has been done."""
        self.asked: dict[str, tuple[float, float]] = {}
        """Instance → when it was first to drain, and the ceiling of that."""
        self.controls: dict[Life, tuple[str, Control]] = {}
        """Runner → its deploy, and where people ask it for something."""
        self.asked_for: list[tuple[str, Asked]] = []
        self.born_broken: list[str] = []
        self.told_to_stop: dict[str, float] = {}
        """Instance → when the first signal that ends it went out."""
        self.resumes: Callable[[], bool] = lambda: False
        """Starts a runner for a deploy that only waits for its drains and has lost its own; whether there was one."""
        self.crowded: list[str] = []
        """Runners that began a deploy beside another one."""
        self.unheard: list[str] = []
        """Moments in which somebody who serves was asked to stop, and should not have been."""
        self.ids = 0
        self.lives = 0
        self.reboots = 0
        self.mishaps: set[str] = set()
        self._spells = 0

    # Lives -----------------------------------------------------------------------------------------------------------

    def born(self, role: str) -> Life:
        self.lives += 1
        process = self.kernel.spawn(role)
        process.environ = b"DEPLOYER_ENGINE=" + role.encode()
        process.reaps_orphans = role == "keeper"
        return Life(f"{role}#{self.lives}", role, process)

    def must_live(self, life: Life) -> None:
        if not life.alive:
            raise Died(life.name)
        self.acting = life

    def kill(self, life: Life | None) -> None:
        """As kill -9 does: its transaction is rolled back, its children are orphans, it does nothing any more."""
        if life is not None and life.alive:
            self.note("kernel", f"{life.name} dies")
            self.end(life)

    def end(self, life: Life) -> None:
        life.alive = False
        if life is self.writing:
            self.disk.roll_back()
        self.kernel.exit(life.process, -9)
        if self.engine is life:
            self.engine = None
        self.controls.pop(life, None)
        if self.keeper is not None:
            self.keeper.somebody_left()

    # Beside others ---------------------------------------------------------------------------------------------------

    def apart(self, life: Life, act: Callable[[], None]) -> None:
        """Let *life* do *act*: to its end, or until it has let go of the deploy lock and waits."""
        self.routines[life] = routine = Routine(act)
        self._go_on(life, routine)

    def lets_go(self, life: Life) -> None:
        """*life* does not hold the deploy lock any more, if ever it did."""
        if self.engine is life:
            self.engine = None

    def follows(self, life: Life) -> bool:
        """Whether *life* waits beside others."""
        return life in self.routines and self.engine is not life

    def rest(self, life: Life, until: float, woken: Callable[[], bool]) -> None:
        """*life* waits; whoever else is there goes on meanwhile."""
        follower = Follower(life, self.routines[life], until, woken)
        self.followers.append(follower)
        self.routines[life].rest()

    def is_waited_for(self, deploy: str) -> bool:
        """Whether a runner has the lock of those who wait for the drains of *deploy*."""
        holder = self.drain_locks.get(deploy)
        return holder is not None and holder.alive

    def let_followers(self) -> bool:
        """Whether a runner that waits beside others had something to do and did it."""
        found = next((one for one in self.followers if one.runnable(self.time)), None)
        if found is None:
            return False
        self.turns += 1
        if self.turns > TURNS_AT_MOST:
            raise Endless("a runner spins")
        self.followers.remove(found)
        self._go_on(found.life, found.routine)
        return True

    def close(self) -> None:
        """Nobody goes on any more."""
        for life, routine in list(self.routines.items()):
            life.alive = False
            self._go_on(life, routine)

    def _go_on(self, life: Life, routine: Routine) -> None:
        try:
            routine.go_on()
        finally:
            if routine.ended:
                self.routines.pop(life, None)

    # Effects ---------------------------------------------------------------------------------------------------------

    def effect(self, life: Life, what: str, values: Sequence[Any] = ()) -> None:
        """*life* is about to do *what*: from outside it is not done yet. Raises Died where it does not come to it."""
        self.must_live(life)
        self.effects += 1
        if self.effects > EFFECTS_AT_MOST:
            raise Endless(f"more than {EFFECTS_AT_MOST} effects")
        self.writing: Life | None = life
        while self.waiting and self.waiting[0].at <= self.effects:
            self._strike(life, self.waiting.pop(0), what, values)
        for fault in [fault for fault in self.named if str(fault.text) in f"{life.role}: {what} {_joined(values)}"]:
            self.named.remove(fault)
            self._strike(life, fault, what, values)
        self.writing = None
        if self.interleave and life.role != "keeper" and not self.disk.db.in_transaction and self.dice.random() < 0.15:
            self.let_keeper()
        self.must_live(life)
        self.lines.append((self.effects, self.time, life.name, what, values))

    def _strike(self, life: Life, fault: Fault, what: str, values: Sequence[Any]) -> None:
        if fault.delay:
            self.timed.append((self.time + fault.delay, fault))
            self.timed.sort(key=lambda one: one[0])
            return
        self.struck.append((f"{life.role}: {what}", fault))
        keeper = self.keeper.life if self.keeper is not None else None
        was_alive = keeper is not None and keeper.alive
        self.note("fault", f"{fault.kind} {fault.arg}")
        fault.strike(self, life)
        if keeper is life and was_alive and not life.alive:
            self.deaths_before.append((what, values))

    def detail(self, life: Life, what: str, values: Sequence[Any]) -> None:
        """A part of an effect to come: only for who reads the trace."""
        self.lines.append((self.effects, self.time, life.name, what, values))

    def note(self, who: str, text: str) -> None:
        self.lines.append((self.effects, self.time, who, text, ()))

    # Time ------------------------------------------------------------------------------------------------------------

    def at(self, monotonic: float) -> float:
        """The world's second of what a part of the engine calls *monotonic*; never a rounding error too early."""
        return monotonic + self.kernel.booted + 1e-9

    def pass_time(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let the world go on until *until* (world seconds) or until *stop*: processes, the keeper, faults of their time."""
        while not stop():
            if self.let_keeper() or (self.followers and self.let_followers()) or self.resumes():
                continue
            if self.time >= until:
                return
            due = [at for at in (until, self._next_due()) if at is not None]
            if min(due) == float("inf"):
                raise Endless("nothing will ever happen again")
            self._spells += 1
            self._move(min(due))

    def skip(self, seconds: float) -> None:
        """Time in which only processes go on: whoever calls this sleeps or is not scheduled, and it is not the only one."""
        until = self.time + seconds
        while self.time < until:
            due = self.kernel.next_event()
            self._move(until if due is None else min(until, due))

    def let_keeper(self) -> bool:
        """Whether the keeper had something to do and did it."""
        keeper = self.keeper
        if keeper is None or keeper.busy or not keeper.life.alive or not keeper.runnable():
            return False
        self.turns += 1
        if self.turns > TURNS_AT_MOST:
            raise Endless("the keeper spins")
        keeper.turn()
        return True

    def _next_due(self) -> float | None:
        due = [self.kernel.next_event(), self.timed[0][0] if self.timed else None]
        due += [follower.due for follower in self.followers if not follower.routine.busy]
        if self.keeper is not None and self.keeper.life.alive:
            due.append(self.keeper.next_due())
        return min((at for at in due if at is not None), default=None)

    def _move(self, to: float) -> None:
        self.time = max(self.time, to)
        if self.time > 10_000.0 + ENDS_WITHIN or self._spells > TURNS_AT_MOST:
            raise Endless(f"not ended after {self.time - 10_000.0:.0f} s")
        self.kernel.happen()
        while self.timed and self.timed[0][0] <= self.time:
            fault = self.timed.pop(0)[1]
            self.struck.append(("time passes", fault))
            self.note("fault", f"{fault.kind} {fault.arg}")
            fault.strike(self, None)

    writing: Life | None = None
    # What the kernel tells -------------------------------------------------------------------------------------------

    def _on_exit(self, process: Process) -> None:
        self.note("kernel", f"{process.name} {process.pid} exits: {process.code}")
        if process.main and process.instance is not None and process.instance not in self.told_to_stop:
            self.mishaps.add(process.instance)
        told = process.ppid != INIT  # else its keeper has died, and the next one cannot know how it ended
        if process.main and process.instance is not None and (process.code != 0 or not told):
            # A crash, as far as anybody can know: what the main process leaves behind is asked to stop from now on.
            self.asked.setdefault(process.instance, (self.time, CEILING))

    def _on_child(self, parent: Process) -> None:
        if self.keeper is not None and self.keeper.life.process is parent:
            self.keeper.woken = True

    def _on_signal(self, process: Process, signum: int) -> None:
        """At no point is nobody listening: asked at every signal that ends an instance for the sake of an overlap."""
        instance = process.instance
        if signum not in (signal.SIGTERM, signal.SIGKILL) or instance is None or instance in self.told_to_stop:
            return
        self.told_to_stop[instance] = self.time
        ordered = self.disk.rows(
            "SELECT d.who, p.id, p.request FROM drains d JOIN deploys p ON p.id=d.deploy WHERE d.instance=?", instance
        )
        request = json.loads(ordered[0]["request"]) if ordered and ordered[0]["request"] else {}
        if not ordered or ordered[0]["who"] == CRASH or not any(s["step"] == "launch" for s in request["steps"]):
            return
        if instance == request["instance"]:
            return
        if not self.disk.rows(
            "SELECT 1 FROM journal WHERE deploy=? AND step='ready' AND phase='done'", ordered[0]["id"]
        ):
            self.unheard.append(
                f"{instance} was asked to stop by {ordered[0]['id']} before the new one had proven itself"
            )
        wished = self.disk.rows("SELECT id, spec FROM instances WHERE id=(SELECT value FROM meta WHERE key='desired')")
        if not wished or not json.loads(wished[0]["spec"]).get("beside"):
            return  # a stop, or a release that cannot share, has come after it
        name = str(wished[0]["id"])
        if (name in self.told_to_stop or name not in self.living()) and name not in self.mishaps:
            self.unheard.append(f"{instance} was asked to stop, and nobody else serves")

    # What the judge knows --------------------------------------------------------------------------------------------

    def living(self) -> dict[str, list[Process]]:
        """Instance → its living processes, by ancestry."""
        found: dict[str, list[Process]] = {}
        for process in self.kernel.table.values():
            if process.alive and process.instance is not None:
                found.setdefault(process.instance, []).append(process)
        return found

    def asks(self, ceiling: float, except_for: str | None = None, only: str | None = None) -> None:
        """The supervisor was asked to drain what runs: from here on the ceiling counts."""
        for instance in self.living():
            if instance != except_for and only in (None, instance):
                at, before = self.asked.get(instance, (self.time, float("inf")))
                proven = self.disk.rows("SELECT 1 FROM instances WHERE id=? AND confirmed=1", instance)
                least = CEILING if proven else ceiling  # only a release that never proved itself may be hurried
                self.asked[instance] = (at, min(before, self.time - at + least))

    def moves(self, instance: str, deadline: float) -> None:
        """A person has moved the ceiling of *instance*'s drain to *deadline*, which is the one that counts from here on."""
        at, _ = self.asked.get(instance, (self.time, 0.0))
        self.asked[instance] = (at, deadline - at)

    def trace(self) -> str:
        return "\n".join(
            f"{number:4} {at - 10_000:10.3f} {who:10} {what[:110]} {_shown(values)}".rstrip()
            for number, at, who, what, values in self.lines
        )


def _joined(values: Sequence[Any]) -> str:
    return " | ".join(map(str, values))


def _shown(values: Sequence[Any]) -> str:
    texts = (str(value) for value in values)
    return " | ".join(text if len(text) <= 60 else text[:57] + "..." for text in texts)


class SimClock(Clock):
    """The world's time since this boot."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.time - self._world.kernel.booted

    def wall(self) -> float:
        return 1.7e9 + self._world.time

    def sleep(self, seconds: float) -> None:
        self._world.skip(seconds)
