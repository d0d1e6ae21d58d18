"""`deployer enable` and `disable`: what starts the service again when the machine comes up."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Protocol

from deployer.errors import PreflightError
from deployer.host.boot import launcher
from deployer.host.boot.crontab import Crontab
from deployer.host.boot.owned import Owned
from deployer.host.boot.units import BootUnit
from deployer.host.limits.units import SYSTEM, USER
from deployer.host.paths import HostPaths

Found = Dict[str, Any]
_OWNED = {"systemd": SYSTEM, "systemd-user": USER}


class Way(Protocol):
    """One way to have something started at boot; each knows what is its own by a mark, and touches nothing else."""

    way: str

    def possible(self) -> Optional[str]:
        """None where this way is open here; else what was looked for."""

    def where(self) -> Optional[str]:
        """Where it is installed; None where it is not."""

    def doubt(self) -> Optional[Dict[str, str]]:
        """Why it would not work though it is installed (`why`, `hint`)."""

    def install(self, drain: Dict[str, Any]) -> bool:
        """Install it, or bring it up to date; whether something had to be changed."""

    def remove(self) -> bool:
        """Whether there was something of ours to be removed."""


_BY_COMMANDS: Found = {
    "way": None, "where": None, "comes_up": False, "why": "at boot it is for whoever is behind your commands to start it",
    "hint": "have its own supervisor start it at boot",
}  # fmt: skip


def ways(paths: HostPaths, app: str, supervisor: str = "builtin") -> List[Way]:
    """The best one first. Where another *supervisor* than the keeper owns the services, there is one: its own."""
    if supervisor in _OWNED:
        return [Owned(paths, app, _OWNED[supervisor])]
    return [BootUnit(paths, app, SYSTEM), BootUnit(paths, app, USER), Crontab(paths, app)]


def look(paths: HostPaths, app: str, supervisor: str = "builtin") -> Found:
    """`way` and `where` (None: not enabled), `comes_up`, and where it does not `why` and `hint`."""
    if supervisor == "command":
        return dict(_BY_COMMANDS)
    for way in ways(paths, app, supervisor):
        where = way.where()
        if where is not None:
            doubt = way.doubt() or (None if supervisor in _OWNED else _without_launcher(paths))
            return {
                "way": way.way,
                "where": where,
                "comes_up": doubt is None,
                "why": None,
                "hint": None,
                **(doubt or {}),
            }
    return {
        "way": None, "where": None, "comes_up": False, "why": "nothing starts it after a reboot",
        "hint": "deployer enable",
    }  # fmt: skip


def enable(paths: HostPaths, app: str, drain: Dict[str, Any], supervisor: str = "builtin") -> Found:
    """
    Install the best way that is open here, and remove what another one has left; as `look`, and whether it `changed`.

    Raises PreflightError where there is none, or where what was installed would not be started at boot.
    """
    if supervisor == "command":
        raise PreflightError(
            "deployer cannot bring this service back after a reboot",
            cause=str(_BY_COMMANDS["why"]),
            state="nothing was changed",
            hint=str(_BY_COMMANDS["hint"]),
        )
    chosen = _choose(ways(paths, app, supervisor))
    paths.prepare_private()
    if supervisor not in _OWNED:
        launcher.write(paths)
    changed = chosen.install(drain)
    for other in ways(paths, app, supervisor):
        if other.way != chosen.way:
            changed = other.remove() or changed
    found = look(paths, app, supervisor)
    if not found["comes_up"]:
        raise PreflightError(
            "the service would not come up after a reboot",
            cause=found["why"],
            state=f"{found['where'] or 'what starts it'} is installed; what runs was not touched",
            hint=found["hint"],
        )
    return {**found, "changed": changed}


def disable(paths: HostPaths, app: str, supervisor: str = "builtin") -> Found:
    """Remove what `enable` installed, in whichever way; what runs goes on."""
    removed = [way.remove() for way in ways(paths, app, supervisor)]
    launcher.remove(paths)
    return {**look(paths, app, supervisor), "changed": any(removed)}


def _choose(all_ways: List[Way]) -> Way:
    missing = []
    for way in all_ways:
        reason = way.possible()
        if reason is None:
            return way
        missing.append(reason)
    raise PreflightError(
        "nothing on this host could start the service after a reboot",
        cause="looked for " + "; ".join(missing),
        state="nothing was changed",
        hint="install cron, or log in once so that a systemd of this user runs (loginctl enable-linger USER)",
    )


def _without_launcher(paths: HostPaths) -> Optional[Dict[str, str]]:
    if paths.boot.exists():
        return None
    return {"why": f"{paths.boot}, which would be started, is gone", "hint": "deployer enable"}
