"""What is to be done to the items of a source, in the order in which it was written."""

from __future__ import annotations

from collections import abc
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Union

from deployer.errors import UsageError
from deployer.jobs import limits
from deployer.jobs.work import Step

Source = Union[Iterable[Any], Callable[[], Iterable[Any]]]
THREADS, PROCESSES, RAY = EXECUTORS = ("threads", "processes", "ray")


class Stage(NamedTuple):
    """Steps that one worker does to an item without handing it on in between."""

    executor: str
    workers: Optional[int]
    steps: List[Step]


class Pipeline:
    """
    `map` and `filter` add steps, `sink` ends it; each gives the pipeline, so they can be written in a row. Neighbours that run
    on the same executor are done as one, by the same worker.
    """

    def __init__(
        self, source: Source, chunk: int, ordered: bool, window: Optional[int], executor: str, retries: int
    ) -> None:
        self.source = source
        self.chunk = chunk
        self.ordered = ordered
        self.window = window
        self.retries = retries
        self.stages: List[Stage] = []
        self.ending: Optional[Callable[[Any], Any]] = None
        self._executor = executor

    def map(
        self, fn: Callable[[Any], Any], *, executor: Optional[str] = None, workers: Optional[int] = None
    ) -> "Pipeline":
        """
        Replace each item by *fn(item)*. *executor*: "threads", "processes" (*fn* and items are pickled), "ray"; *workers*: how
        many at once, where it shall differ from the environment's.
        """
        limits.function(fn, "map")
        chosen = limits.choice(executor or self._executor, EXECUTORS, "executor")
        return self._add(
            (f"map {called(fn)}", False, fn), chosen, limits.count(workers, "workers") if workers is not None else None
        )

    def filter(self, fn: Callable[[Any], Any]) -> "Pipeline":
        """Keep the items for which *fn(item)* is true. It runs where the step before it does."""
        limits.function(fn, "filter")
        before = self.stages[-1].executor if self.stages else self._executor
        return self._add((f"filter {called(fn)}", True, fn), before, None)

    def _add(self, step: Step, executor: str, workers: Optional[int]) -> "Pipeline":
        self._open()
        last = self.stages[-1] if self.stages else None
        if last and last.executor == executor and workers in (None, last.workers):
            last.steps.append(step)
        else:
            self.stages.append(Stage(executor, workers, [step]))
        return self

    def sink(self, fn: Callable[[Any], Any]) -> "Pipeline":
        """Hand each result to *fn*: in the thread that submits, one at a time. The last step."""
        self._open()
        self.ending = limits.function(fn, "sink")
        return self

    def _open(self) -> None:
        if self.ending is not None:
            raise UsageError("nothing comes after a sink", hint="begin another pipeline with env.from_batch")

    def items(self) -> Iterator[Any]:
        """The source, begun."""
        source: Any = self.source
        return iter(source() if callable(source) and not isinstance(source, abc.Iterable) else source)


def check_source(source: Any) -> Source:
    """*source*, if one can read items from it."""
    if callable(source) or hasattr(source, "__iter__") or hasattr(source, "__getitem__"):
        found: Source = source
        return found
    raise UsageError(f"from_batch reads an iterable, or a function that gives one, not {source!r}")


def called(fn: Any) -> str:
    """A name for *fn*, for a person."""
    return str(getattr(fn, "__name__", None) or type(fn).__name__)


def sink_name(pipeline: Pipeline) -> str:
    return f"sink {called(pipeline.ending)}"
