"""Ray tasks that do the work of a stage, wherever in the cluster there is room."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from deployer.errors import DeployerError, UsageError
from deployer.jobs.hands import WorkerDied
from deployer.jobs.work import Done, Step, work_afar

_FORCED_WITHIN = 10.0
"""Seconds for the cluster to end what was cancelled by force."""


class Tasks:
    """*retries*: how often a task is begun again whose worker or node has died; its items are then worked on more than once."""

    def __init__(self, ray: Any, workers: int, steps: Sequence[Step], retries: int) -> None:
        self.at_once = workers
        self._ray = ray
        self._work = ray.remote(max_retries=retries, retry_exceptions=False)(work_afar)
        self._steps = self._sent(steps)
        self._name = steps[0][0]
        self._running: Dict[Any, int] = {}

    def _sent(self, steps: Sequence[Step]) -> Any:
        """Once, not with every task."""
        try:
            return self._ray.put(list(steps))
        except DeployerError:
            raise
        except Exception as error:
            raise _refused(error) or UsageError(
                f"{', '.join(name for name, _, _ in steps)} cannot run on Ray: it cannot be pickled", cause=str(error)
            ) from error

    def begin(self, number: int, items: List[Any]) -> None:
        pickler = self._ray.cloudpickle
        self._running[self._work.remote(self._steps, items, pickler.dumps, pickler.loads)] = number

    def finished(self, within: Optional[float]) -> Optional[Tuple[int, Done]]:
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=within)
        if not done:
            return None
        number = self._running[done[0]]
        try:
            result = self._ray.get(done[0])
        except (self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.NodeDiedError) as error:
            raise WorkerDied(f"the worker of a Ray task died: {_first_line(error)}") from error
        except self._ray.exceptions.RayError as error:
            result = [], (self._name, 0, getattr(error, "cause", None) or error, str(error))
        del self._running[done[0]]
        return number, result

    def stop(self, within: float) -> None:
        """
        Only what outlasts *within* is cancelled. Ray (2.60) aborts the whole process, and with it every clean-up, when a task is
        cancelled in the moment in which its result arrives ("Tried to complete task that was not pending"): after an error, when
        many are about to end, that was one job of fifty.
        """
        for ref in self._ended(within):
            if not self._ray.wait([ref], timeout=0)[0]:
                self._ray.cancel(ref, force=True)
        self._ended(_FORCED_WITHIN)

    def left(self) -> List[str]:
        pending = self._ended(0)
        return [f"{len(pending)} Ray tasks of {self._name} still run"] if pending else []

    def _ended(self, within: float) -> List[Any]:
        """Wait; those that have not ended."""
        if not self._running:
            return []
        _, pending = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=within)
        return list(pending)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _refused(error: Optional[BaseException]) -> Optional[DeployerError]:
    """The error of ours within *error*: a service of this process that was to travel."""
    while error is not None and not isinstance(error, DeployerError):
        error = error.__cause__ or error.__context__
    return error
