"""The job of a run: started once, followed to its end, or stopped when it may not go on."""

from __future__ import annotations

import signal
from typing import Any, Dict, Optional

from deployer.durations import show
from deployer.errors import FailedError
from deployer.host import program
from deployer.host.batch import begun, services, telling
from deployer.host.batch.parts import Part, job, own_report
from deployer.host.batch.waiting import LOOK_EVERY, alive, await_gone, await_start
from deployer.host.deploy import Deploy
from deployer.host.heed import Attentive
from deployer.host.instance import new_instance_id
from deployer.model import JOB

LOGS_KEPT = 20
STARTS_WITHIN = 30.0
"""Seconds in which the keeper must have started the job."""


def require(deploy: Deploy) -> None:
    """Raises GateError when the job's program is not there: before anything is started."""
    if not deploy.request.target.get("plan"):  # that is a program of ours
        program.require(deploy.paths, deploy.spec("none"))  # what the wrapper will run


def run(deploy: Deploy) -> None:
    """Start the job, or find it again, and wait for its end. Raises FailedError when it failed or may not go on; Aborted."""
    part = _started(deploy)
    limit = deploy.request.settings["job"]["timeout"]
    record = deploy.supervisor.record(part.spec.id) or {}
    until = None if limit is None else float(record["started_at"]) + float(limit)
    why = _followed(deploy, part, until)
    if why is not None:
        raise FailedError(why, hint="see `deployer logs`")
    code = _ended(deploy, part)
    if code is None:
        cause = "the engine and the machine went down with it" if _rebooted(deploy, part) else "its process was killed"
        raise FailedError("the job has gone, and nobody could see how it ended", cause=cause, hint="run it again")
    if code != 0:
        raise FailedError(f"the job {_how(code)}")


def stop(deploy: Deploy) -> bool:
    """Whether nothing of the job is left: what still runs of it is asked to stop, and killed after `job.stop_within`."""
    instance = begun.instance_of(deploy, JOB)
    if instance is None:
        return True
    part, record = job(deploy, instance), deploy.supervisor.record(instance)
    deploy.supervisor.dismiss(deploy.request.deploy, deploy.request.who, instance, part.order)
    gone = await_gone(deploy, instance, part.order.ceiling)
    if record is not None and record.get("pid"):
        _ended(deploy, part)
    for report in (part.report, own_report(part)):
        if report is not None:
            telling.remove(report)
    return gone


def prune_logs(deploy: Deploy) -> None:
    """Remove the logs of jobs of long ago."""
    for old in sorted(deploy.paths.logs.glob("job-*.log"))[:-LOGS_KEPT]:
        old.unlink(missing_ok=True)


def _started(deploy: Deploy) -> Part:
    known = begun.instance_of(deploy, JOB)
    part = job(deploy, known or new_instance_id())
    if known is None:
        begun.announce(deploy, part.name, part.spec.id)
    deploy.supervisor.launch(deploy.request.deploy, part.spec)
    record = await_start(deploy, part.spec.id, STARTS_WITHIN, "the job")
    if not deploy.journal.told("job.started"):
        where = {"log": part.spec.log, "offset": int(record.get("log_offset") or 0)}
        deploy.journal.event("job.started", pid=record["pid"], command=" ".join(part.command), **where)
    return part


def _followed(deploy: Deploy, part: Part, until: Optional[float]) -> Optional[str]:
    """Why the job may not go on; None when it has ended by itself."""
    keeper = Attentive(deploy, deploy.supervisor)
    while True:
        running = alive(deploy, part.spec.id)
        if running is None or running["pid"] not in {one["pid"] for one in running["processes"]}:
            return None  # what its main process has left behind is ended with it
        gone = services.died(deploy)
        if gone is not None:
            return f"{gone} while the job ran"
        left = float("inf") if until is None else until - deploy.clock.wall()
        if left <= 0:
            return f"the job exceeded its timeout of {show(deploy.request.settings['job']['timeout'])}"
        keeper.wait(deploy.clock.now() + min(left, LOOK_EVERY))


def _ended(deploy: Deploy, part: Part) -> Optional[int]:
    """The job's exit code, told once; None where nobody knows it."""
    told = deploy.journal.told("job.finished")
    if told:
        code: Optional[int] = told[-1]["exit_code"]
        return code
    record = deploy.supervisor.record(part.spec.id) or {}
    code = _code(part, record)
    ended_at = deploy.state.row("SELECT ended_at FROM instances WHERE id=?", part.spec.id) or {}
    until = float(ended_at.get("ended_at") or deploy.clock.wall())
    took = round(max(0.0, until - float(record.get("started_at") or until)), 3)
    report = telling.read(own_report(part)) or None
    deploy.journal.event("job.finished", exit_code=code, took_s=took, report=report)
    return code


def _how(code: int) -> str:
    # 255 is what `sys.exit(-1)` gives, and no death by signal 127: there is none.
    return f"was ended by signal {code - 128}" if 128 < code < 128 + signal.NSIG else f"exited with code {code}"


def _code(part: Part, record: Dict[str, Any]) -> Optional[int]:
    written = telling.read(part.report).get("exit_code")
    if isinstance(written, int):
        return written
    seen = record.get("exit_code")
    return None if seen is None else 128 - seen if seen < 0 else int(seen)


def _rebooted(deploy: Deploy, part: Part) -> bool:
    row = deploy.state.row("SELECT boot FROM instances WHERE id=?", part.spec.id)
    return bool(row) and row["boot"] != deploy.processes.boot  # type: ignore[index]
