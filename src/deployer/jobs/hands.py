"""
Who does the work of a stage: threads, worker processes or Ray tasks, behind one seam.

Batches of items are begun and their results taken by one thread, the one that submitted the job.
"""

from __future__ import annotations

from typing import Any, List, Optional, Protocol, Tuple

from deployer.jobs.work import Done


class Hands(Protocol):
    at_once: int
    """How many batches may be in their hands."""

    def begin(self, number: int, items: List[Any]) -> None:
        """Take batch *number*. Returns at once."""

    def finished(self, within: Optional[float]) -> Optional[Tuple[int, Done]]:
        """The next batch that is done; None when there is none *within* so many seconds. WorkerDied when one never will be."""

    def stop(self, within: float) -> None:
        """
        Take no more, drop what was not begun, wait *within* seconds for what was; then end it by force where there is a way. May be
        called in any thread, when nobody is in the other two.
        """

    def left(self) -> List[str]:
        """What is still there now, looked up and not remembered; [] after a stop as it should be."""


class WorkerDied(Exception):
    """A process that had work in its hands has died: the machine, or somebody on it, ended it."""


class Elsewhere(Exception):
    """The traceback of an error that was raised in another process."""

    def __init__(self, trace: str) -> None:
        super().__init__(trace)

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'
