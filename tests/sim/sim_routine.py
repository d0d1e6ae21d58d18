"""Runners that go on beside others: one at a time, and only while somebody waits for it, so that a seed stays a schedule."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim_world import Life


class Routine:
    """What *act* does, in a thread that runs only within `go_on`: from there to its next `rest`, or to its end."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._raised: BaseException | None = None
        self.busy = False
        self.ended = False

    def go_on(self) -> None:
        """Raises what *act* did not catch."""
        self.busy = True
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        self._back.acquire()
        self.busy = False
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised

    def rest(self) -> None:
        """Called by *act*: let whoever called `go_on` go on."""
        self._back.release()
        self._go.acquire()

    def _run(self) -> None:
        try:
            self._act()
        except BaseException as error:  # the thread of the world's clock raises it
            self._raised = error
        self.ended = True
        self._back.release()


@dataclass(eq=False)
class Follower:
    """A runner without the deploy lock: it rests until *due* (world seconds), or until *woken*."""

    life: Life
    routine: Routine
    due: float
    woken: Callable[[], bool]

    def runnable(self, now: float) -> bool:
        return not self.routine.busy and (not self.life.alive or now >= self.due or self.woken())
