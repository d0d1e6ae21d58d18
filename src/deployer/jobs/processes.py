"""Worker processes of this machine that do the work of a stage, by a ProcessPoolExecutor."""

from __future__ import annotations

import io
import multiprocessing.context
import pickle
import queue
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, List, Optional, Sequence, Tuple

from deployer.errors import UsageError
from deployer.jobs.hands import WorkerDied
from deployer.jobs.limits import Deadline
from deployer.jobs.reference import ServiceReference
from deployer.jobs.tether import tether
from deployer.jobs.work import Done, Step, work_afar

_KILLED_WITHIN = 5.0
"""Seconds for the kernel to end what was killed."""


class _Recording(multiprocessing.context.SpawnContext):
    """
    Remembers the processes that the pool starts: there is no other way to look for them afterwards. Spawned, not forked: a
    service or a library may have threads, and a fork takes their locks along in whatever state they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun: List[Any] = []

    def Process(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        process = multiprocessing.context.SpawnProcess(*args, **kwargs)
        self.begun.append(process)
        return process


class Processes:
    def __init__(self, workers: int, steps: Sequence[Step]) -> None:
        _travels(steps)
        self.at_once = 2 * workers
        self._steps = steps
        self._context = _Recording()
        self._pool = ProcessPoolExecutor(workers, mp_context=self._context, initializer=tether)
        self._futures: "dict[Future[Done], int]" = {}
        self._done: "queue.SimpleQueue[Future[Done]]" = queue.SimpleQueue()

    def begin(self, number: int, items: List[Any]) -> None:
        try:
            future = self._pool.submit(work_afar, self._steps, items, pickle.dumps, pickle.loads)
        except BrokenProcessPool as error:
            raise self._died() from error
        self._futures[future] = number
        future.add_done_callback(self._done.put)

    def finished(self, within: Optional[float]) -> Optional[Tuple[int, Done]]:
        try:
            future = self._done.get(timeout=within)
        except queue.Empty:
            return None
        number = self._futures.pop(future)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise self._died() from error
        if error is not None:  # the items or the results could not travel
            return number, ([], (self._steps[0][0], 0, error, ""))
        return number, future.result()

    def stop(self, within: float) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        deadline = Deadline(within)
        wait(list(self._futures), deadline.left())
        for process in self._begun():
            process.join(deadline.left())
            if process.is_alive():
                process.kill()
        for process in self._begun():
            process.join(_KILLED_WITHIN)

    def left(self) -> List[str]:
        return [f"worker process {process.pid} still runs" for process in self._begun() if process.is_alive()]

    def _begun(self) -> List[Any]:
        return [process for process in self._context.begun if process.pid is not None]

    def _died(self) -> WorkerDied:
        """The pool ends its other processes by SIGTERM when one has died, so that is the least likely reason."""
        for process in self._begun():
            process.join(1)
        codes = [(process.pid, process.exitcode) for process in self._begun() if process.exitcode]
        pid, code = min(codes, key=lambda each: each[1] == -15, default=(0, 0))
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = '; a script that starts processes needs its `if __name__ == "__main__":`' if code == 1 else ""
        return WorkerDied(f"worker process {pid} died ({how}){hint}")


class _Inspector(pickle.Pickler):
    """Looks at everything that is pickled."""

    def persistent_id(self, item: Any) -> None:
        if isinstance(item, ServiceReference):
            raise UsageError(
                f"a step that runs in processes cannot call a service: {item!r}",
                hint='use executor="threads", or Ray tasks and a service with remote=True',
            )


def _travels(steps: Sequence[Step]) -> None:
    for name, _, call in steps:
        try:
            _Inspector(io.BytesIO()).dump(call)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"{name} cannot run in processes: it cannot be pickled",
                cause=str(error),
                hint="use a function at the top level of a module, without lambdas and closures",
            ) from error
