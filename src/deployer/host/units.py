"""A systemd unit that is adopted: its own limits must outlast the drain, and it is stopped through systemd, once."""

from __future__ import annotations

from deployer.durations import show
from deployer.errors import DeployerError, PreflightError, UsageError
from deployer.host import adopt
from deployer.host.deploy import Deploy
from deployer.host.drain import asked_through_another
from deployer.host.supervisors.systemctl import Manager, seconds
from deployer.host.tree import Tree
from deployer.model import Identity


def check(unit: str, ceiling: float, scope: str = "system") -> None:
    """
    Raises UsageError, naming both rungs, when systemd would kill the unit before *ceiling* seconds have passed, and where
    another unit (a socket, a timer) would start it again, in the place of the release that follows it.
    """
    if scope == "launchd":
        from deployer.host import launchd_jobs

        launchd_jobs.check(unit, ceiling)
        return
    shown = adopt.unit_properties(unit, scope)
    if shown.get("TriggeredBy"):
        raise UsageError(
            f"{unit} is started by {shown['TriggeredBy']}, also once a release has taken its place",
            cause="systemd would stop the release for it", state="nothing was changed",
            hint=f"systemctl disable --now {shown['TriggeredBy']}, then push again; a socket of its own is run.socket",
        )  # fmt: skip
    limit = seconds(shown.get("TimeoutStopUSec", "infinity"))
    if limit is not None and limit <= ceiling:
        raise UsageError(
            f"the timeout ladder does not rise: TimeoutStopSec of {unit} is {show(limit)}, "
            f"and drain.ceiling is {show(ceiling)}",
            cause=f"systemd would kill the process after {show(limit)}, whatever it is working on",
            state="nothing was changed",
            hint=f"set TimeoutStopSec={int(ceiling) + 60} in {unit} (systemctl edit {unit}), or lower drain.ceiling",
        )


def stop(unit: str, instance: str, main: Identity, deploy: Deploy) -> None:
    """
    Let systemd ask the unit to stop, once; its signal is recorded as the one SIGTERM of every process that gets it.

    Only systemd can stop a unit for good: one with Restart=always would come back after a signal of ours.
    """
    shown = adopt.unit_properties(unit)
    tree = Tree(deploy.processes, main, None)
    members = tree.refresh()
    tree.close()
    to_all = shown.get("KillMode", "control-group") == "control-group"
    asked = [(stat.pid, stat.start) for stat in (members if to_all else members[:1])]
    try:
        with asked_through_another(deploy.state, deploy.clock, instance, asked, deploy.request.drain["signal"]):
            Manager("system").ask("stop", "--no-block", "--", unit)
    except DeployerError as error:
        raise PreflightError(
            f"systemctl stop failed for {unit}", cause=error.cause, state="the unit runs on"
        ) from error
