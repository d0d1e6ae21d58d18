"""The systemd unit that a process belongs to, and what it says of a stop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Optional

from deployer.errors import DeployerError
from deployer.host.supervisors.systemctl import Manager, seconds

_SHOWN = ("LoadState", "MainPID", "TimeoutStopUSec", "KillMode", "Restart", "RestartUSec")
SYSTEM, USER = "system", "user"


@dataclass(frozen=True)
class Unit:
    """A unit's name, and whose: the system's, or that of a user's own manager."""

    name: str
    scope: str


def of_process(pid: int, proc: str = "/proc") -> Optional[Unit]:
    """The service that *pid* runs in, as its control group says; None in a login session, or without systemd."""
    try:
        with open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    paths = [line.split(":", 2)[2] for line in lines if re.match(r"\d+:(name=systemd)?:/", line)]
    return next(filter(None, map(_in_path, paths)), None)


def _in_path(path: str) -> Optional[Unit]:
    parts = path.split("/")
    services = [part for part in parts if part.endswith(".service")]
    if not services or parts[-1].endswith(".scope"):
        return None
    manager = any(re.fullmatch(r"user@\d+\.service", part) for part in services)
    inner = [part for part in services if not re.fullmatch(r"user@\d+\.service", part)]
    return Unit(inner[-1], USER if manager else SYSTEM) if inner else None


def look(unit: Unit) -> Optional[Dict[str, Any]]:
    """
    `name`, `scope`, `pid`, `stop_s` (None: for ever), `kill_mode`, `restart`, `restart_s` of *unit*.

    None where systemd does not answer or knows no such unit: doctor then says nothing of it.
    """
    shown = _show(unit)
    if shown.get("LoadState") != "loaded":
        return None
    return {
        "name": unit.name,
        "scope": unit.scope,
        "pid": int(shown.get("MainPID") or 0),
        "stop_s": seconds(shown.get("TimeoutStopUSec", "infinity")),
        "kill_mode": shown.get("KillMode", "control-group"),
        "restart": shown.get("Restart", "no"),
        "restart_s": seconds(shown.get("RestartUSec", "infinity")),
    }


def _show(unit: Unit) -> Dict[str, str]:
    try:
        return Manager(unit.scope).show(unit.name, _SHOWN)
    except DeployerError:
        return {}
