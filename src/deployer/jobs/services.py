"""The services of an environment: begun in the order of their registration, ended in reverse."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Protocol

from deployer.errors import UsageError
from deployer.jobs.closing import Closed, described
from deployer.jobs.report import ServiceReport
from deployer.jobs.spec import ServiceSpec
from deployer.jobs.telling import Teller


class Service(Protocol):
    """One service, wherever it lives (local_service.py, actor_service.py)."""

    @property
    def target(self) -> Any: ...

    def start(self) -> None: ...

    def close(self) -> Closed: ...

    def left(self) -> List[str]:
        """What is there of one that could not be built."""


class NotBuilt(Exception):
    """Service *name* could not be built; the reason is the cause."""

    def __init__(self, name: str, reason: BaseException) -> None:
        super().__init__(f'service "{name}" could not be built: {described(reason)}')


class Services:
    """*make* gives a service of a spec, not yet begun."""

    def __init__(self, make: Callable[[ServiceSpec], Service], teller: Teller) -> None:
        self.specs: Dict[str, ServiceSpec] = {}
        self.reports: Dict[str, ServiceReport] = {}
        self._make = make
        self._teller = teller
        self._running: Dict[str, Service] = {}

    def register(self, spec: ServiceSpec) -> None:
        if spec.name in self.specs:
            raise UsageError(f'there is a service "{spec.name}" already', hint="a service has a name of its own")
        self.specs[spec.name] = spec

    def find(self, name: str) -> Any:
        """The running service: its object, or the methods of its actor."""
        if name not in self._running:
            raise UsageError(
                f'service "{name}" does not run' + ("" if name in self.specs else ": nobody registered it"),
                hint="services run within submit(), and after submit(autostop=False) until stop()",
            )
        return self._running[name].target

    @property
    def running(self) -> List[str]:
        return list(self._running)

    def start(self) -> None:
        """Those that do not run. NotBuilt ends it at the first that cannot be built; those before it run then."""
        self.reports = {name: report for name, report in self.reports.items() if name in self._running}
        for name, spec in self.specs.items():
            if name not in self._running:
                self._start(name, self._make(spec))

    def _start(self, name: str, service: Service) -> None:
        report = self.reports[name] = ServiceReport(name)
        began = time.monotonic()
        self._running[name] = service  # before it is begun: a Ctrl-C right after that finds it
        try:
            service.start()
        except BaseException as error:
            del self._running[name]
            report.error = f"could not be built: {described(error)}"
            left = service.left()
            if left:
                report.running, report.error = True, f"{report.error}; it left {', '.join(left)}"
            if isinstance(error, Exception):
                raise NotBuilt(name, error) from error
            raise
        report.initialized = report.running = True
        self._teller.tell("service.started", service=name, ready_s=time.monotonic() - began)

    def close(self, succeeded: bool, kept_too: bool = False) -> None:
        """All that run, in reverse order, but those that their policy keeps (with *kept_too* those as well). Never raises."""
        for name in reversed(self.running):
            if self.specs[name].keeps(succeeded) and not kept_too:
                self.keep(name)
            else:
                self._close(name)

    def keep(self, name: str) -> None:
        """Leave it running, and say so."""
        self.reports[name].kept = True
        self._tell(name)

    def _close(self, name: str) -> None:
        closed = self._running.pop(name).close()
        report = self.reports[name]
        report.cleanup_called, report.cleanup_completed = closed.called, closed.completed
        report.running, report.seconds, report.error, report.kept = closed.running, closed.seconds, closed.error, False
        self._tell(name)

    def _tell(self, name: str) -> None:
        facts = dict(vars(self.reports[name]))
        self._teller.tell("service.stopped", service=facts.pop("name"), **facts)
