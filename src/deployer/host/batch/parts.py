"""What one run consists of: its services and its job, each as something that the keeper can start and stop."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from deployer.host import engine
from deployer.host.batch import begun
from deployer.host.deploy import Deploy, spec_of
from deployer.host.paths import HostPaths
from deployer.model import JOB, DrainOrder, Spec

ALWAYS, ON_SUCCESS, NEVER = "always", "on_success", "never"
CLASS_PROGRAM = "class_main.py"
RAY_MARGIN = 30.0
"""Seconds more that an actor's end may take: it is killed, and looked for until Ray knows it dead."""
KILLED_AFTER = 2.0
"""Seconds that the program around a class has, beyond the limits of `stop` and `cleanup`, to say how these went."""


@dataclass(frozen=True)
class Part:
    """
    A service, or the job (`name` JOB). `settings` are its table; `health` and `order` say when it is ready and how it is stopped.

    `spec` is complete but for the instance's id. `report`: the file in which its own program tells how it went, if it has one.
    """

    name: str
    settings: Dict[str, Any]
    health: Dict[str, Any]
    order: DrainOrder
    spec: Spec
    report: Optional[Path]

    @property
    def command(self) -> Sequence[str]:
        """What a person calls it."""
        return (f"class {self.settings['class']}",) if self.settings.get("class") else self.settings["command"]

    @property
    def kept(self) -> str:
        """When it is cleaned up: ALWAYS, ON_SUCCESS or NEVER."""
        return str(self.settings.get("cleanup") or ALWAYS)


def services(deploy: Deploy) -> List[str]:
    """The names of the run's services, in the order in which they are started."""
    return list(deploy.request.settings["services"])


def service(deploy: Deploy, name: str, instance: str) -> Part:
    """The service *name* of the run, to be started as *instance*."""
    table, paths = deploy.request.settings["services"][name], deploy.paths
    report = report_of(paths, instance)
    spec = _spec(deploy, table, instance, f"service-{name}")
    spec = _changed(_with(spec, DEPLOYER_SERVICE=name), part=name)
    if table.get("class"):
        program = [_python(spec), "-B", str(_program(paths, CLASS_PROGRAM)), table["class"], str(report)]
        spec = _running(spec, [*program, str(table["cleanup_timeout"])])
        limit = 2 * float(table["cleanup_timeout"]) + KILLED_AFTER
        if table.get("ray"):
            limit += RAY_MARGIN
            spec = _with(spec, DEPLOYER_SERVICE_RAY=json.dumps(table["ray"]))
        order = DrainOrder("SIGTERM", "main", limit)
        spec = _with(spec, DEPLOYER_SERVICE_SOCKET=str(socket_of(paths, instance)))
        return Part(name, table, {**table["health"], "notifies": True}, order, _stopped_by(spec, order), report)
    own = table["drain"]
    ceiling = float(own["ceiling"]) if table["own_ceiling"] else float(table["cleanup_timeout"])
    order = DrainOrder(own["signal"], own["signal_to"], ceiling)
    return Part(name, table, table["health"], order, _stopped_by(_running(spec, table["command"]), order), None)


def job(deploy: Deploy, instance: str) -> Part:
    """The job of the run, to be started as *instance*. Its report has its exit code, which outlives the keeper."""
    settings, paths = deploy.request.settings, deploy.paths
    table = settings["job"]
    report = report_of(paths, instance)
    spec = _spec(deploy, table, instance, f"job-{deploy.request.deploy}")
    own = report_of(paths, f"{instance}-own")
    spec = _with(spec, DEPLOYER_JOB=deploy.request.deploy, DEPLOYER_JOB_REPORT=str(own))
    spec = _with(spec, DEPLOYER_SERVICES=json.dumps(_sockets(deploy)))
    planned = [_python(spec), "-B", str(_program(paths, "plan_main.py"))]
    command = planned if deploy.request.target.get("plan") else table["command"]
    program = [sys.executable, "-I", "-S", "-B", str(_program(paths, "job_main.py")), str(report)]
    spec = _changed(_running(spec, [*program, *command]), part=JOB)
    order = DrainOrder("SIGTERM", "main", float(table["stop_within"]))
    return Part(JOB, table, settings["health"], order, _stopped_by(spec, order), report)


def own_report(part: Part) -> Path:
    """Where the job itself may have written a report (DEPLOYER_JOB_REPORT)."""
    return Path(part.spec.env["DEPLOYER_JOB_REPORT"])


def _spec(deploy: Deploy, table: Dict[str, Any], instance: str, log: str) -> Spec:
    request = deploy.request
    found = spec_of(deploy.paths, str(request.release), request.settings, instance)
    found = _with(found, **table["env"])
    return _changed(found, log=f"{log}.log", beside=True)


def _running(spec: Spec, argv: Sequence[str]) -> Spec:
    return _changed(spec, argv=tuple(argv))


def _with(spec: Spec, **env: str) -> Spec:
    return _changed(spec, env={**spec.env, **env})


def _changed(spec: Spec, **changes: Any) -> Spec:
    return Spec(**{**vars(spec), **changes})


def _stopped_by(spec: Spec, order: DrainOrder) -> Spec:
    """What outlives a crash of its main process, and what a later run finds, is stopped in the same way."""
    return _changed(spec, drain=order.to_json())


def report_in(spec: Spec) -> Optional[Path]:
    """Where the program around the class of *spec* tells how it went; None for a service that is a program of its own."""
    around = any(word.endswith(f"/{CLASS_PROGRAM}") for word in spec.argv)
    return Path(spec.argv[-2]) if around else None


def reporting_to(spec: Spec, report: Path) -> Spec:
    """*spec*, whose program tells how it went in *report*, if it has one around it."""
    return _running(spec, [*spec.argv[:-2], str(report), spec.argv[-1]]) if report_in(spec) is not None else spec


def socket_of(paths: HostPaths, instance: str) -> Path:
    """Where a service that is a class answers the other processes of its run."""
    return paths.run / f"svc-{instance}.sock"


def _sockets(deploy: Deploy) -> Dict[str, str]:
    tables = deploy.request.settings["services"]
    known = {name: begun.instance_of(deploy, name) for name in tables if tables[name].get("class")}
    return {name: str(socket_of(deploy.paths, instance)) for name, instance in known.items() if instance}


def report_of(paths: HostPaths, instance: str) -> Path:
    """Where the program around *instance* tells how it went."""
    return paths.run / f"report-{instance}.json"


def _program(paths: HostPaths, name: str) -> Path:
    return engine.install(paths) / "host" / "batch" / name


def _python(spec: Spec) -> str:
    """The Python of the release: that of its virtual environment where it has one, else whichever the PATH names."""
    own = Path(spec.cwd, ".venv", "bin", "python")
    return str(own) if os.access(own, os.X_OK) else "python3"
