"""A drain whose main process is asked by a command of the user's; all else is as in any drain (drain.py)."""

from __future__ import annotations

from dataclasses import replace as changed
from functools import partial
from typing import Optional

from deployer.errors import DeployerError
from deployer.host.clock import Clock
from deployer.host.drain import Drain
from deployer.host.instance import Instance
from deployer.host.say import say
from deployer.host.state import State
from deployer.host.supervisors.owner import Asker
from deployer.model import Verdict

LOOK_AGAIN = 0.5
"""Seconds until the next look at a command that is still at it: after a keeper's death it is nobody's child who would be told."""
LOOK_SOON = 0.1
SETTLES_WITHIN = 3.0
"""Seconds for which the command may go on when all that it waits for was killed."""
ASKED_FIRST = 1.0
"""Seconds that the command has before force, where a person ends the drain in the moment in which it begins."""


class AskedDrain(Drain):
    """
    The user's command is called once, recorded before, and decides how the main process is asked; force at the ceiling is ours.

    It has ended once the command and the whole tree have. The command is called also where nothing lives: its supervisor may be
    about to start it again.
    """

    def __init__(self, instance: Instance, state: State, clock: Clock, by: Asker) -> None:
        super().__init__(instance, state, clock)
        self._by = by
        self._called_at: Optional[float] = None
        self._told = False
        self._ended: Optional[Verdict] = None
        self._ended_at = 0.0

    def advance(self) -> Optional[Verdict]:
        if self._ended is None:
            self._ended, self._ended_at = self._end(), self._clock.now()
        # Its command waits for nothing more, and a supervisor that is at it refuses to start anything.
        if self._ended is not None and self._by.asking(self.instance.spec):
            if self._clock.now() < self._ended_at + SETTLES_WITHIN:
                return None
            self._by.kill(self.instance.spec)
        return self._ended

    def _end(self) -> Optional[Verdict]:
        called = self._call()
        force = self._forced_at is not None or self._is_late()
        if not called and not force:
            return None
        if not force and self._by.asking(self.instance.spec):
            self.instance.members()  # whose exits wake us
            return None
        self._tell_refusal()
        return super().advance()

    def next_deadline(self) -> float:
        if self._ended is not None:
            return self._clock.now() + LOOK_SOON
        due = super().next_deadline()
        if self._called_at is None or self._by.asking(self.instance.spec):
            return min(due, self._clock.now() + LOOK_AGAIN)
        return max(due, self._called_at + ASKED_FIRST) if self._forced_at is None else due

    def _is_late(self) -> bool:
        return super()._is_late() and self._clock.now() >= (self._called_at or 0.0) + ASKED_FIRST

    def _call(self) -> bool:
        """Whether the command has been called by now, by us or by a keeper before us."""
        if self._called_at is not None:
            return True
        main = self.instance.main
        how = changed(self._ordered.how, ceiling=max(0.0, self.deadline - self._clock.now()))
        note = partial(self._ordered.note_signal, main.pid, main.start, how.signal)
        self._ordered.written(partial(note, sent=False))
        try:
            self._by.ask(self.instance.spec, main, how)
        except DeployerError as error:
            say(f"drain of {self.instance.id}: {error}: {error.cause}")
            return False
        self._called_at = self._clock.now()
        self._signalled.add((main.pid, main.start))  # what it leaves behind gets a signal of its own, once it has gone
        self._ordered.written(partial(note, sent=True))
        return True

    def _tell_refusal(self) -> None:
        problem = None if self._told else self._by.refused(self.instance.spec)
        if problem and self.instance.tree.main_alive():
            self._told = True
            self.instance.status_text = f"{problem}: pid {self.instance.main.pid} may not have been asked"
            say(f"drain of {self.instance.id}: {self.instance.status_text}; it is waited for until the ceiling")
