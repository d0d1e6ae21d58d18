"""
The story of a stop, told once for everyone: signal (recorded first), wait, force at the ceiling, verdict.

A `Drain` holds no thread and no timer: its owner calls `advance` whenever a process of the tree has exited or the
deadline has passed, and polls the tree's handles in between.
"""

from __future__ import annotations

import signal as signals
from contextlib import contextmanager
from functools import partial
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from deployer.errors import DeployerError
from deployer.host.clock import Clock
from deployer.host.instance import Instance
from deployer.host.ordered import Ordered, named
from deployer.host.process import Stat
from deployer.host.state import State
from deployer.model import DrainOrder, Verdict

CRASH = "crash"
"""Who asks what a crashed main process left behind to stop: nobody in particular."""
STUCK_AFTER = 10.0
"""Seconds after SIGKILL until a process that the kernel cannot end (state D) is given up and named."""


class Drain:
    """The drain of one instance, recorded in state.db before anything is signalled; a second keeper continues it."""

    def __init__(self, instance: Instance, state: State, clock: Clock) -> None:
        self.instance = instance
        self._state = state
        self._clock = clock
        self._ordered = ordered = Ordered(instance, state, clock)
        self.deploy, self.deadline = ordered.deploy, ordered.deadline
        self._of_a_crash = ordered.who == CRASH
        self._signal = signals.Signals[ordered.how.signal]
        # Forced before us: by a keeper that died of it, perhaps, and nobody knows how far it came.
        self._forced_at: Optional[float] = clock.now() if ordered.forced else None
        self._signalled: Set[Tuple[int, int]] = self._recorded(ordered.how.signal)
        self._killed: Dict[Tuple[int, int], Dict[str, object]] = {
            key: {"pid": key[0], "command": "?"} for key in self._recorded("SIGKILL")
        }
        self._main_seen_gone = False
        self._asked_late = False
        if not self._signalled and not ordered.forced and ordered.boot == instance.main.boot:
            self._count_anew(ordered.asked, ordered.how.ceiling)

    def _count_anew(self, asked: float, ceiling: float) -> None:
        # Promised, and then nobody was there to ask: the time that it has to finish begins with its signal. A deadline that
        # somebody has moved is left alone.
        untouched = abs(self.deadline - (asked + ceiling)) < 0.001
        if untouched and self.deadline < self._clock.now() + ceiling:
            self.deadline = self._clock.now() + ceiling
            self._written(lambda: self._state.update("drains", self.instance.id, deadline_mono=self.deadline))

    def advance(self) -> Optional[Verdict]:
        """Do what is due now; the verdict once the whole tree has exited, else None."""
        members = self.instance.members()
        if members and (self._forced_at is not None or (self._is_late() and not self._unasked(members))):
            self._force(members)
        elif members:
            self._ask(members)
        if not members:
            return self._verdict([])
        if self._forced_at is not None and self._clock.now() >= self._forced_at + STUCK_AFTER:
            return self._verdict(self.instance.members())  # looked up again: we may have been held up since
        return None

    def _is_late(self) -> bool:
        return self._clock.now() >= self.deadline

    def _unasked(self, members: List[Stat]) -> bool:
        # A person may end the drain in the very moment in which it begins: asked first, killed after. One chance only: where
        # nobody could be asked (no descriptors left), force must come all the same.
        if self._signalled or self._asked_late or not any(self.instance.tree.handle(stat.pid) for stat in members):
            return False
        self._asked_late = True
        return True

    def next_deadline(self) -> float:
        """When `advance` must be called even if no process has exited (monotonic seconds)."""
        return self.deadline if self._forced_at is None else self._forced_at + STUCK_AFTER

    def waited(self) -> float:
        """Seconds since the drain was asked for; 0 when that was before the machine was started again."""
        return self._ordered.waited()

    def move_deadline(self, deadline: float) -> bool:
        """Lengthen or shorten the wait; recorded. False when force has been used already."""
        if self._forced_at is not None:
            return False
        if deadline > self.deadline:  # more time counts only once it is on record: the next keeper must grant it too
            self._state.update("drains", self.instance.id, deadline_mono=deadline)
        else:
            self._written(partial(self._state.update, "drains", self.instance.id, deadline_mono=deadline))
        self.deadline = deadline
        return True

    def take_over(self, deploy: str, who: str, how: DrainOrder) -> None:
        """What is left of a crash is now *deploy*'s to wait for, and for no longer than it would wait for anything."""
        if self._of_a_crash:
            self._of_a_crash = False
            self.deploy = deploy
            self._state.update("drains", self.instance.id, deploy=deploy, who=who, ceiling=how.ceiling)
            self.move_deadline(min(self.deadline, self._clock.now() + how.ceiling))

    def _ask(self, members: List[Stat]) -> None:
        # The main process decides for its children; once it has gone, whoever lives on gets a signal of its own.
        # A process that appeared later under a living parent is that parent's business (it may be its clean-up).
        main_alive = any(self.instance.tree.is_main(stat) for stat in members)
        alive = {stat.pid for stat in members}
        everyone = (
            not self._signalled
            if self._ordered.how.signal_to == "tree"
            else not main_alive and not self._main_seen_gone
        )
        for stat in members:
            orphaned = not main_alive and stat.ppid not in alive
            if everyone or orphaned or self.instance.tree.is_main(stat):
                self._send(stat)
        self._main_seen_gone = self._main_seen_gone or not main_alive

    def _send(self, stat: Stat) -> None:
        key = (stat.pid, stat.start)
        handle = self.instance.tree.handle(stat.pid)
        if handle is None or key in self._signalled:
            return
        self._signalled.add(key)
        mark = self._mark(*key)
        if self._state.marked(mark):
            return  # by a keeper that died of it: it may have gone out, and the disk refused the line of it
        # Written down before it is sent: a keeper that comes back must neither send it twice nor wait for what was never sent.
        self._written(lambda: self._record(stat, self._signal.name))
        self._written(lambda: self._state.mark(mark))
        sent = handle.send(self._signal)
        if sent and stat.state in "Tt":
            handle.send(signals.SIGCONT)  # a stopped process cannot hear the request otherwise
        # Refused, the mark stays: it is all that tells the next keeper.
        if not sent or self._written(lambda: self._sent(stat, self._signal.name)):
            self._state.unmark(mark)

    def _written(self, write: Callable[[], None]) -> bool:
        return self._ordered.written(write)

    def _force(self, members: List[Stat]) -> None:
        if self._forced_at is None:
            self._forced_at = self._clock.now()
            self._written(lambda: self._state.update("drains", self.instance.id, forced=1))
        for stat in members:
            handle = self.instance.tree.handle(stat.pid)
            if (stat.pid, stat.start) not in self._killed and handle is not None:
                self._killed[stat.pid, stat.start] = self.instance.tree.describe(stat)
                self._written(partial(self._record, stat, "SIGKILL"))
                if handle.send(signals.SIGKILL):
                    self._written(partial(self._sent, stat, "SIGKILL"))
                else:  # it had just gone by itself, or is not ours to kill: then it is named as stuck
                    del self._killed[stat.pid, stat.start]

    def _verdict(self, stuck: List[Stat]) -> Verdict:
        code = self.instance.reap()
        if code is not None and code != -signals.SIGKILL:  # a zombie takes a SIGKILL, too, and has not died of it
            main = self.instance.main
            self._killed.pop((main.pid, main.start), None)
        return Verdict(
            verdict=named(code, self._signal.name, bool(self._killed or stuck or self._ordered.forced)),
            exit_code=code,
            waited_s=round(self.waited(), 3),
            killed=list(self._killed.values()),
            stuck=[self.instance.tree.describe(stat) for stat in stuck],
        )

    def _recorded(self, signal: str) -> Set[Tuple[int, int]]:
        rows = self._state.rows(
            "SELECT pid, start, sent_at FROM signals WHERE instance=? AND signal=?", self.instance.id, signal
        )
        keys = {(row["pid"], row["start"]): row["sent_at"] is not None for row in rows}
        return {key for key, sent in keys.items() if sent or self._state.marked(self._mark(*key))}

    def _mark(self, pid: int, start: int) -> str:
        return f"signal-{self.instance.id}-{pid}-{start}"

    def _record(self, stat: Stat, signal: str) -> None:
        self._ordered.note_signal(stat.pid, stat.start, signal, sent=False)

    def _sent(self, stat: Stat, signal: str) -> None:
        self._ordered.note_signal(stat.pid, stat.start, signal, sent=True)


@contextmanager
def asked_through_another(
    state: State, clock: Clock, instance: str, who: Iterable[Tuple[int, int]], signal: str
) -> Iterator[None]:
    """
    Within it somebody else (systemd, launchd) is told to ask *who* (pid, start) of *instance* to stop.

    On record as sent before, so that whoever goes on after our death sends no second one; as never sent where it is refused.
    """
    keys, now = list(who), clock.wall()
    for pid, start in keys:
        state.replace("signals", instance=instance, pid=pid, start=start, signal=signal, intended_at=now, sent_at=now)
    try:
        yield
    except DeployerError:
        for pid, start in keys:
            state.execute(
                "DELETE FROM signals WHERE instance=? AND pid=? AND start=? AND signal=?", instance, pid, start, signal
            )
        raise


def order(state: State, clock: Clock, instance: Instance, deploy: str, who: str, how: DrainOrder) -> None:
    """Record that *instance* shall drain. Within the caller's transaction; a drain ordered before stays as it is."""
    if state.row("SELECT 1 FROM drains WHERE instance=?", instance.id):
        return
    now = clock.now()
    state.insert(
        "drains",
        instance=instance.id,
        deploy=deploy,
        who=who,
        asked_at=clock.wall(),
        asked_mono=now,
        deadline_mono=now + how.ceiling,
        boot=instance.main.boot,
        signal=how.signal,
        signal_to=how.signal_to,
        ceiling=how.ceiling,
    )
    state.update("instances", instance.id, state="draining")
