"""`LocalEnvironment`: a batch job and its services in this process and, where asked for, on Ray."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from types import TracebackType
from typing import Any, Callable, Dict, List, Optional, Sequence, Type

from deployer.errors import UsageError
from deployer.jobs import cluster, limits
from deployer.jobs.actor_service import ActorService, prepare
from deployer.jobs.ending import protected, raised_for
from deployer.jobs.limits import Deadline
from deployer.jobs.local_service import LocalService
from deployer.jobs.pipeline import RAY, THREADS, Pipeline, Source, check_source
from deployer.jobs.reference import ServiceReference
from deployer.jobs.report import Report
from deployer.jobs.running import Running
from deployer.jobs.services import NotBuilt, Service, Services
from deployer.jobs.signals import Signals
from deployer.jobs.spec import ALWAYS, POLICIES, ServiceSpec
from deployer.jobs.telling import Event, Teller, terminal


class LocalEnvironment:
    """
    Services, and pipelines that use them. As a context it ends with `stop(kept_too=True)`.

    *ray*: None: steps run in threads of this process; "auto", "host:port" or "ray://…": as tasks of that cluster. A service
    with remote=True is an actor either way. Ray is connected when it is first needed, as ray.init() has it, or used as it is
    when this process has initialised it; who connects disconnects. *namespace*: Ray's. *workers*: how many at once.
    *task_grace*: how long work in flight is waited for when the job ends early. *on_event*: called with a dict for each event
    (docs/jobs.md), in the thread where it happens.
    """

    def __init__(
        self,
        name: str,
        *,
        ray: Optional[str] = None,
        namespace: Optional[str] = None,
        workers: Optional[int] = None,
        task_grace: str = "10s",
        on_event: Optional[Callable[[Event], Any]] = None,
    ) -> None:
        self.name = limits.name(name, "a job")
        self.report: Optional[Report] = None
        self._address = ray
        self._namespace = namespace
        self._workers = limits.count(workers, "workers") if workers is not None else None
        self._task_grace = limits.seconds(task_grace, "task_grace")
        if ray is not None:
            cluster.check()
        self._teller = Teller(self.name, on_event, terminal())
        self._services = Services(self._made, self._teller)
        self._pipelines: List[Pipeline] = []
        self._connection: Optional[cluster.Connection] = None
        self._signals = Signals()
        self._busy = threading.Lock()
        self._pid = os.getpid()

    # What there is to do ----------------------------------------------------------------------------------------------

    def register_service(
        self,
        name: str,
        cls: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Optional[Dict[str, Any]] = None,
        *,
        remote: bool = False,
        cleanup_timeout: str = "5s",
        cleanup: str = ALWAYS,
        ready_within: str = "5m",
        options: Optional[Dict[str, Any]] = None,
    ) -> None:
        """
        A service that is built by `cls(*args, **kwargs)` when the job is submitted, in the order of registration.

        *remote*: as a Ray actor with *options* (those of ray.remote, such as num_gpus), which must be there *ready_within* that
        time. At the end `stop()`, then `cleanup()`, those that it has, each under *cleanup_timeout*. *cleanup*: "always",
        "on_success" (a failed job keeps it, for a look), "never".
        """
        limits.name(name, "a service")
        limits.function(cls, f'service "{name}"')
        if remote:
            cluster.check()
        elif options:
            raise UsageError(f'service "{name}": options are those of a Ray actor', hint="with remote=True it is one")
        what = f'cleanup_timeout of service "{name}"'
        self._services.register(
            ServiceSpec(
                name, cls, tuple(args), dict(kwargs or {}), remote, limits.seconds(cleanup_timeout, what),
                limits.choice(cleanup, POLICIES, "cleanup"), limits.seconds(ready_within, "ready_within"), dict(options or {}),
            )
        )  # fmt: skip

    def service(self, name: str) -> ServiceReference:
        """The service, for functions of a pipeline; its attributes are looked up when they are used."""
        if name not in self._services.specs:
            raise UsageError(
                f'there is no service "{name}"', hint=f"registered: {', '.join(self._services.specs) or 'none'}"
            )
        return ServiceReference(name, lambda: self._services.find(name))

    def from_batch(
        self,
        source: Source,
        *,
        ordered: bool = True,
        chunk: int = 1,
        window: Optional[int] = None,
        retries: int = 0,
    ) -> Pipeline:
        """
        A pipeline over *source*: an iterable, or a function that gives one; read lazily, in the thread that submits.

        *ordered*: results come in the order of the items. *chunk*: how many items go to a worker at a time. *window*: how many
        such chunks may be begun and not yet sunk, for each stage; twice what works at once. *retries*: how often a Ray task is
        begun again whose worker or node died.
        """
        executor = RAY if self._address is not None else THREADS
        window = limits.count(window, "window") if window is not None else None
        if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            raise UsageError(f"retries is a whole number from 0 on, not {retries!r}")
        made = Pipeline(check_source(source), limits.count(chunk, "chunk"), ordered, window, executor, retries)
        self._pipelines.append(made)
        return made

    # Doing it ---------------------------------------------------------------------------------------------------------

    def submit(self, autostop: bool = True, timeout: Optional[str] = None) -> Report:
        """
        Start the services, run the pipelines that were added since the last submit, one after the other, end the services in
        reverse order. Returns when no service and no task is left; both are looked for, and what is there is named in the report.

        JobError, when all is cleaned up, if a service could not be built, if a step, the source or the sink raised, if a worker
        died, or if *timeout* passed. A KeyboardInterrupt or SystemExit comes after the same clean-up. With autostop=False services
        are left running for `stop()`; but never those before one that could not be built.
        """
        limit = limits.seconds(timeout, "timeout") if timeout is not None else None
        if not self._busy.acquire(blocking=False):
            raise UsageError(f'job "{self.name}" is being submitted or stopped already')
        try:
            return self._submit(autostop, limit)
        finally:
            self._busy.release()

    def _submit(self, autostop: bool, limit: Optional[float]) -> Report:
        began = time.monotonic()
        report = self.report = Report(self.name)
        running = Running(self._ray, self._workers, report, self._teller, Deadline(limit))
        pipelines, self._pipelines = self._pipelines, []
        error: Optional[BaseException] = None
        with Signals() as self._signals:
            try:
                try:
                    self._perform(pipelines, running)
                finally:
                    self._signals.hold()
            except BaseException as caught:
                error = caught
            report.ok = error is None
            protected(lambda: self._finish(running, report, autostop or isinstance(error, NotBuilt)))
            report.took_s = time.monotonic() - began
            raised = raised_for(error, report, limit)
            report.error = str(raised.title) if raised else report.error
            self._tell_end(report)
        if error is None:
            return report
        raise (raised or error) from (raised.__cause__ if raised else error.__cause__)

    def _perform(self, pipelines: List[Pipeline], running: Running) -> None:
        self._services.start()
        self._teller.tell("job.started", services=self._services.running)
        for pipeline in pipelines:
            running.perform(pipeline)

    def _finish(self, running: Running, report: Report, autostop: bool) -> None:
        """Tasks first, then the services that they call; then look what is left of either."""
        running.stop(self._task_grace)
        if autostop:
            self._services.close(report.ok)
        else:
            for name in self._services.running:
                self._services.keep(name)
        report.left = running.left()
        report.services = dict(self._services.reports)
        self._settle()

    def stop(self, kept_too: bool = True) -> Optional[Report]:
        """
        End the services that run, in reverse order, and give the report; again it changes nothing. *kept_too*: those as well that
        their policy keeps. None when nothing was ever submitted.
        """
        if not self._busy.acquire(blocking=False):
            raise UsageError(f'job "{self.name}" is being submitted or stopped already')
        try:
            if self.report is not None:
                with Signals() as signals:
                    signals.hold()
                    protected(lambda: self._stop(kept_too))
            return self.report
        finally:
            self._busy.release()

    def _stop(self, kept_too: bool) -> None:
        assert self.report is not None
        self._services.close(self.report.ok, kept_too)
        self.report.services = dict(self._services.reports)
        self._settle()

    def _settle(self) -> None:
        """With services left, be there when the interpreter ends; without, cut the tie to Ray, if it is ours."""
        atexit.unregister(self._at_exit)
        if self._services.running:
            atexit.register(self._at_exit)
        elif self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def _at_exit(self) -> None:
        """Of a process that was forked from ours they are not."""
        if os.getpid() != self._pid or self.report is None:
            return
        log = logging.getLogger("deployer.jobs")
        for name in self._services.running:
            kept = self._services.specs[name].keeps(self.report.ok)
            log.warning(
                "job %s: service %s still ran at exit, and is %s", self.name, name, "left as it is" if kept else "ended"
            )
        self._services.close(self.report.ok)
        if self._connection is not None:
            self._connection.disconnect()

    # Parts ------------------------------------------------------------------------------------------------------------

    def _made(self, spec: ServiceSpec) -> Service:
        return ActorService(spec, self._ray()) if spec.remote else LocalService(spec)

    def _ray(self) -> Any:
        """The module, connected."""
        if self._connection is None:
            self._connection = cluster.connect(self._address, namespace=self._namespace)
            prepare(self._connection.ray)
            self._signals.take()  # ray.init has put a handler of its own for SIGTERM
        return self._connection.ray

    def _tell_end(self, report: Report) -> None:
        facts = {"ok": report.ok, "took_s": report.took_s, "error": report.error, "report": report.to_json()}
        self._teller.tell("job.finished", **facts)
        self._teller.show(f"\r\x1b[K{report}\n")

    def __enter__(self) -> "LocalEnvironment":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()
