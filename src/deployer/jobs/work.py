"""The steps of a pipeline, done to a few items: in a thread, a worker process or a Ray task. Travels by value."""

from __future__ import annotations

import traceback
from typing import Any, Callable, List, Optional, Sequence, Tuple

Step = Tuple[str, bool, Callable[[Any], Any]]
"""Its name, whether it only decides what stays (a filter), and what is called."""
Failure = Tuple[str, int, BaseException, str]
"""The step, the item's place among those given, the error, and its traceback."""
Done = Tuple[List[Any], Optional[Failure]]


def work(steps: Sequence[Step], items: Sequence[Any]) -> Done:
    """What *steps* make of *items*. The first error ends it; it is returned, with the results before it, and never raised."""
    made: List[Any] = []
    for place, item in enumerate(items):
        for name, is_filter, call in steps:
            try:
                result = call(item)
                if is_filter and not result:
                    break
            except BaseException as error:  # SystemExit too: it is this item's, and nobody else's
                return made, (name, place, error, traceback.format_exc())
            if not is_filter:
                item = result
        else:
            made.append(item)
    return made, None


def work_afar(
    steps: Sequence[Step], items: Sequence[Any], dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]
) -> Done:
    """`work` in another process: an error that would not survive the way back is told by a RuntimeError."""
    made, failure = work(steps, items)
    if failure is not None:
        name, place, error, trace = failure
        try:
            loads(dumps(error))
        except Exception:
            failure = (name, place, RuntimeError(f"{type(error).__name__}: {error}"), trace)
    return made, failure
