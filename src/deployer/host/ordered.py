"""One drain as it was ordered: its record in state.db, and the name of its verdict. Whoever carries it out writes down here."""

from __future__ import annotations

import signal as signals
from typing import Callable, Optional

from deployer.errors import DeployerError
from deployer.host.clock import Clock
from deployer.host.instance import Instance
from deployer.host.say import say
from deployer.host.state import State
from deployer.model import DrainOrder


class Ordered:
    """What was ordered for *instance*. Raises LookupError where nothing was."""

    def __init__(self, instance: Instance, state: State, clock: Clock) -> None:
        self._instance = instance
        self._state = state
        self._clock = clock
        row = state.row("SELECT * FROM drains WHERE instance=?", instance.id)
        if row is None:
            raise LookupError(f"no drain was ordered for {instance.id}")
        self.deploy: str = row["deploy"]
        self.who: str = row["who"]
        self.asked: float = row["asked_mono"]
        """When it was asked for (monotonic seconds of the boot in `boot`)."""
        self.deadline: float = row["deadline_mono"]
        self.forced = bool(row["forced"])
        self.boot: str = row["boot"]
        self.how = DrainOrder(row["signal"], row["signal_to"], row["ceiling"])

    def waited(self) -> float:
        """Seconds since the drain was asked for; 0 when that was before the machine was started again."""
        return max(0.0, self._clock.now() - self.asked)

    def note_signal(self, pid: int, start: int, signal: str, sent: bool) -> None:
        """Write down that *signal* is about to be *sent*, or was: the whole line, as the one before it may have been refused."""
        now = self._clock.wall()
        self._state.replace(
            "signals", instance=self._instance.id, pid=pid, start=start, signal=signal, intended_at=now,
            sent_at=now if sent else None,
        )  # fmt: skip

    def written(self, write: Callable[[], None]) -> bool:
        """Whether *write* went through. A full disk must not keep a signal back: only SIGKILL at the ceiling would be left."""
        try:
            write()
        except (DeployerError, OSError) as error:
            say(f"drain of {self._instance.id}: not written down: {error}")
            return False
        return True


def named(code: Optional[int], signal: str, forced: bool) -> str:
    """
    The verdict on a process that was asked by *signal* to stop and ended with *code*: clean, exited or killed.

    A death by that very signal is a clean end. Without a code, which only a parent is told, nothing speaks against one.
    """
    if forced:
        return "killed"
    return "clean" if code in (None, 0, -int(signals.Signals[signal])) else "exited"
