"""A launchd job that is adopted by its label: its ExitTimeOut must outlast the drain, and it is left through launchd, once."""

from __future__ import annotations

import os
import plistlib
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from deployer.durations import show
from deployer.errors import PreflightError, UsageError
from deployer.host.deploy import Deploy
from deployer.host.drain import asked_through_another
from deployer.host.supervisors.launchctl import Job, Launchctl
from deployer.model import Identity

UNTOUCHED = "nothing was changed"


def pid_of(label: str) -> int:
    """The main process of the job *label*. Raises PreflightError when it is not loaded or does not run."""
    domain, job = _found(label)
    if job.pid is None:
        raise _none(f"{label} is loaded in {domain}, and does not run: {job.state}")
    return job.pid


def check(label: str, ceiling: float) -> None:
    """Raises UsageError, naming both rungs, when launchd would kill the job before *ceiling* seconds have passed."""
    domain, job = _found(label)
    if job.path is None or not os.path.isfile(job.path):
        raise PreflightError(
            f"{label} was not loaded from a plist that is still there",
            cause=f"launchd ({domain}) says {job.path or 'nothing about it'}",
            state=UNTOUCHED,
            hint="load it from its file, so that a revert can do that again; or adopt it by pidfile or port",
        )
    # What launchd counts by, which is not always what the plist says.
    if job.limit is not None and job.limit <= ceiling:
        raise UsageError(
            f"the timeout ladder does not rise: ExitTimeOut of {label} is {show(job.limit)}, "
            f"and drain.ceiling is {show(ceiling)}",
            cause=f"launchd would kill the process after {show(job.limit)}, whatever it is working on; {_said(job.path)}",
            state=UNTOUCHED,
            hint=f"set ExitTimeOut to {int(ceiling) + 60} in the plist and load it again at a quiet moment (bootout, then "
            "bootstrap); where launchd holds it down all the same, lower the ceiling for this push (--ceiling)",
        )


def owner_of(label: str) -> Dict[str, Any]:
    """`Spec.owner` of the running job *label*, by which a revert loads it again."""
    domain, job = _found(label)
    return {"kind": "launchd", "unit": label, "domain": domain, "plist": job.path, "foreign": True}


def leave(label: str, instance: str, main: Identity, deploy: Deploy) -> None:
    """
    Let launchd ask the job to stop, once, and not start it again; recorded as the one signal that its process gets.

    Only unloaded it stays away: one with KeepAlive would come back after a signal of ours.
    """
    asked = [(main.pid, main.start)]
    with asked_through_another(deploy.state, deploy.clock, instance, asked, deploy.request.drain["signal"]):
        domain, job = _loaded(label)
        if job is not None:  # a runner that died had it unloaded already
            Launchctl(domain).bootout(label)


def _found(label: str) -> Tuple[str, Job]:
    domain, job = _loaded(label)
    if job is None:
        raise _none(f"launchd has no job {label} loaded, in {', '.join(_domains())}")
    return domain, job


def _loaded(label: str) -> Tuple[str, Optional[Job]]:
    for domain in _domains():
        job = Launchctl(domain).job(label)
        if job is not None:
            return domain, job
    return "", None


def _domains() -> Tuple[str, ...]:
    uid = os.geteuid()
    return ("system",) if uid == 0 else (f"gui/{uid}", f"user/{uid}")


def _said(path: str) -> str:
    try:
        wanted = plistlib.loads(Path(path).read_bytes()).get("ExitTimeOut")
    except (OSError, ValueError, plistlib.InvalidFileException):
        return f"{path} cannot be read"
    return f"{path} says {wanted} s" if wanted is not None else f"{path} says nothing, so it is launchd's own default"


def _none(cause: str) -> PreflightError:
    return PreflightError(
        "the process to adopt was not found", cause=cause, state=UNTOUCHED,
        hint="correct adopt.unit (launchctl list shows the labels), or remove [adopt] if nothing runs yet",
    )  # fmt: skip
