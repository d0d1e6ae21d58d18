"""A systemd unit that is adopted: its own limits must outlast the drain, and it is stopped through systemd, once."""

from __future__ import annotations

import re
import subprocess
import time
from typing import Dict

from deployer.durations import show
from deployer.errors import PreflightError, UsageError
from deployer.host import adopt
from deployer.host.deploy import Deploy
from deployer.host.tree import Tree
from deployer.model import Identity

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


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
    to_all = shown.get("KillMode", "control-group") == "control-group"
    for stat in members if to_all else members[:1]:
        deploy.state.replace(
            "signals", instance=instance, pid=stat.pid, start=stat.start, signal=deploy.request.drain["signal"],
            intended_at=time.time(), sent_at=time.time(),
        )  # fmt: skip
    tree.close()
    _systemctl("stop", "--no-block", "--", unit)


def seconds(text: str) -> "float | None":
    """Seconds in systemd's own notation ("1min 30s"); None for "infinity"."""
    if text.strip() == "infinity":
        return None
    found: Dict[str, float] = {}
    for number, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text):
        found[unit] = float(number) * _UNITS.get(unit, 1.0)
    return sum(found.values())


def _systemctl(*args: str) -> None:
    try:
        subprocess.run(["systemctl", *args], check=True, capture_output=True, timeout=30, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise PreflightError(
            f"systemctl {args[0]} failed for {args[-1]}",
            cause=(getattr(error, "stderr", None) or str(error)).strip(),
            state="the unit runs on",
        ) from error
