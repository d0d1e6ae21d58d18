"""Items through the hands of one stage, a bounded number at a time."""

from __future__ import annotations

from itertools import islice
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from deployer.jobs.hands import Elsewhere, Hands
from deployer.jobs.limits import Deadline
from deployer.jobs.work import Failure


class Bounds(NamedTuple):
    window: int
    """How many batches may be begun or done and not yet given on."""
    chunk: int
    """How many items make a batch."""
    ordered: bool
    """Whether results come in the order of the items."""


class StepFailed(Exception):
    """*step* raised *error* at an item, counted from 1."""

    def __init__(self, step: str, item: int, error: BaseException) -> None:
        super().__init__(f"{step} raised at item {item}")
        self.step = step
        self.item = item
        self.error = error


class Overdue(Exception):
    """The job's own limit has passed."""


def flow(hands: Hands, source: Iterator[Any], bounds: Bounds, deadline: Deadline) -> Iterator[Any]:
    """
    What *hands* make of *source*, lazily: it is read only as fast as the results are taken. StepFailed as soon as an item has
    failed, even if those before it are not done; Overdue past *deadline*.
    """
    made: Dict[int, Optional[List[Any]]] = {}  # in the order of their beginning; None: still in their hands
    number = busy = 0
    more = True
    while more or made:
        room = more and len(made) < bounds.window and busy < hands.at_once
        if room:
            items = list(islice(source, bounds.chunk))
            more = bool(items)
            if items:
                made[number] = None
                hands.begin(number, items)
                number, busy = number + 1, busy + 1
        if busy:
            done = hands.finished(0 if room and more else deadline.left())
            if done is not None:
                which, (results, failure) = done
                if failure is not None:
                    raise _failed(which * bounds.chunk, failure)
                made[which], busy = results, busy - 1
        if deadline.passed:
            raise Overdue
        for which in _ripe(made, bounds.ordered):
            yield from made.pop(which) or []


def _ripe(made: Dict[int, Optional[List[Any]]], ordered: bool) -> List[int]:
    """The batches whose results may be given on now."""
    ripe = []
    for which, results in made.items():
        if results is not None:
            ripe.append(which)
        elif ordered:
            break
    return ripe


def _failed(before: int, failure: Failure) -> StepFailed:
    step, place, error, trace = failure
    if error.__traceback__ is None and trace:
        error.__cause__ = Elsewhere(trace)
    return StepFailed(step, before + place + 1, error)
