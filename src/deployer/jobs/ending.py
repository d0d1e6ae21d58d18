"""The end of a submit: a clean-up that nothing cuts short, and the error that the caller gets."""

from __future__ import annotations

import threading
from typing import Callable, List, Optional

from deployer import durations
from deployer.errors import DeployerError
from deployer.jobs.closing import described
from deployer.jobs.flow import Overdue, StepFailed
from deployer.jobs.hands import WorkerDied
from deployer.jobs.report import JobError, Report
from deployer.jobs.services import NotBuilt


def protected(work: Callable[[], None]) -> None:
    """
    Do *work*, in a thread where no signal arrives, and wait for its end. What is raised in the waiting one meanwhile comes
    after it; what *work* raises, too.
    """
    raised: List[BaseException] = []
    over = threading.Event()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
        finally:
            over.set()

    try:
        threading.Thread(target=run, name="job-cleanup").start()
    except RuntimeError:  # the interpreter is ending
        run()
    while not over.is_set():
        try:
            over.wait()
        except BaseException as error:
            raised.append(error)
    if raised:
        raise raised[-1]


def raised_for(error: Optional[BaseException], report: Report, limit: Optional[float]) -> Optional[JobError]:
    """The JobError for *error*, its cause chained; None for what is raised again as it is: Ctrl-C, an error of ours."""
    if error is None or isinstance(error, DeployerError) or not isinstance(error, Exception):
        report.error = None if error is None else described(error)
        return None
    why = error.error if isinstance(error, StepFailed) else (error.__cause__ or error)
    made = JobError(f"job {report.name} failed: {_told(error, limit)}", report)
    made.__cause__ = why
    return made


def _told(error: Exception, limit: Optional[float]) -> str:
    if isinstance(error, StepFailed):
        return f"{error.step} raised {described(error.error)} at item {error.item}"
    if isinstance(error, Overdue):
        return f"it did not end within {durations.show(limit or 0)}, its timeout"
    if isinstance(error, (NotBuilt, WorkerDied)):
        return str(error)
    return described(error)
