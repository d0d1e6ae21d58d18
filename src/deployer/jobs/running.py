"""Pipelines that run: hands for each stage, items through them, and the end of all that was begun."""

from __future__ import annotations

import os
from types import GeneratorType
from typing import Any, Callable, Iterator, List, Optional

from deployer.jobs import closing
from deployer.jobs.flow import Bounds, Overdue, StepFailed, flow
from deployer.jobs.hands import Hands
from deployer.jobs.limits import Deadline
from deployer.jobs.pipeline import PROCESSES, RAY, Pipeline, Stage, sink_name
from deployer.jobs.processes import Processes
from deployer.jobs.report import Report
from deployer.jobs.tasks import Tasks
from deployer.jobs.telling import Teller
from deployer.jobs.threads import Threads


class Running:
    """One submit's work. *workers*: how many at once, None for what there is room for; *ray* gives the connected module."""

    def __init__(
        self, ray: Callable[[], Any], workers: Optional[int], report: Report, teller: Teller, deadline: Deadline
    ) -> None:
        self._ray = ray
        self._workers = workers
        self._report = report
        self._teller = teller
        self._deadline = deadline
        self._hands: List[Hands] = []
        self._unended: List[str] = []
        self._sources: List[Any] = []

    def perform(self, pipeline: Pipeline) -> None:
        """All of it, in this thread. Raises StepFailed with what a step, the sink or the source raised, Overdue, WorkerDied."""
        items = self._read(pipeline)
        for stage in pipeline.stages:
            hands = self._begun(stage, pipeline)
            window = pipeline.window or 2 * hands.at_once
            items = flow(hands, items, Bounds(window, pipeline.chunk, pipeline.ordered), self._deadline)
        for item in items:
            if pipeline.ending is not None:
                self._sink(pipeline, item)
            self._report.items_out += 1
            self._progress()

    def _read(self, pipeline: Pipeline) -> Iterator[Any]:
        try:
            source = pipeline.items()
            self._sources.append(source)
            for item in source:
                self._report.items_in += 1
                self._progress()
                yield item
        except Exception as error:
            raise StepFailed("the source", self._report.items_in + 1, error) from error

    def _sink(self, pipeline: Pipeline, item: Any) -> None:
        try:
            assert pipeline.ending is not None
            pipeline.ending(item)
        except Exception as error:
            raise StepFailed(sink_name(pipeline), self._report.items_out + 1, error) from error

    def _progress(self) -> None:
        self._teller.progress(self._report.items_in, self._report.items_out)
        if self._deadline.passed:
            raise Overdue

    def _begun(self, stage: Stage, pipeline: Pipeline) -> Hands:
        hands = self._made(stage, pipeline)
        self._hands.append(hands)
        return hands

    def _made(self, stage: Stage, pipeline: Pipeline) -> Hands:
        workers = stage.workers or self._workers
        if stage.executor == RAY:
            ray = self._ray()
            return Tasks(
                ray, workers or max(1, int(ray.cluster_resources().get("CPU", 1))), stage.steps, pipeline.retries
            )
        cores = os.cpu_count() or 1
        if stage.executor == PROCESSES:
            return Processes(workers or cores, stage.steps)
        return Threads(workers or min(32, cores + 4), stage.steps)

    def stop(self, within: float) -> None:
        """
        End the work, the last stage first, each within its limit; then let generators among the sources run their `finally`. What
        cannot be ended, as where the cluster has gone, is left, and keeps nothing else from its end.
        """
        begun, self._hands = self._hands, []
        for hands in reversed(begun):
            try:
                hands.stop(within)
                self._hands.append(hands)
            except Exception as error:
                self._unended.append(f"what {type(hands).__name__.lower()} do: {closing.described(error)}")
        for source in self._sources:
            if isinstance(source, GeneratorType):
                closing.call_within("the source", source.close, within)

    def left(self) -> List[str]:
        """Tasks that are still there, looked up now, and those of which nobody can know."""
        return [*self._unended, *(each for hands in self._hands for each in hands.left())]
