"""
Which owner a target's `supervisor` means: a new one is a file and a line here.

Each is loaded where it is used: most hosts need none of them, and every command starts an agent.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from deployer.errors import DeployerError
from deployer.host.paths import HostPaths
from deployer.host.supervisors.owner import Owner

_SYSTEMD = {"systemd": "system", "systemd-user": "user"}


def owner_of(paths: HostPaths, owner: Mapping[str, Any]) -> Owner:
    """Who owns the process of an instance with `Spec.owner` *owner*."""
    if owner["kind"] == "systemd":
        from deployer.host.supervisors.systemd import Systemd

        return Systemd(paths, str(owner["scope"]))
    if owner["kind"] == "launchd":
        from deployer.host.supervisors.launchd import Launchd

        return Launchd(paths)
    if owner["kind"] == "command":
        from deployer.host.supervisors.command import Command

        return Command(paths, owner)
    raise DeployerError(
        f"this engine knows no supervisor {owner['kind']!r}", hint="client and engine differ in version"
    )


def setting(target: Mapping[str, Any], settings: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """`Spec.owner` of a release with *settings* on *target*; None where the keeper itself owns it."""
    supervisor = str(target.get("supervisor") or "builtin")
    if supervisor in _SYSTEMD:
        return {"kind": "systemd", "scope": _SYSTEMD[supervisor], "settings": settings["run"].get("systemd") or {}}
    if supervisor == "launchd":
        return {"kind": "launchd"}
    if supervisor == "command":
        from deployer.host.supervisors import command

        return command.setting(target["commands"], _port(settings))
    return None


def argv(owner: Optional[Mapping[str, Any]], command: Tuple[str, ...]) -> Tuple[str, ...]:
    """What is run to start an instance with `Spec.owner` *owner* whose release has *command*."""
    return tuple(owner["start"]) if owner is not None and owner["kind"] == "command" else command


def _port(settings: Mapping[str, Any]) -> Optional[int]:
    """Where a release with *settings* listens on this machine, as far as they say."""
    from deployer.host.ready import is_here, url_port

    ports, url = settings["run"]["ports"], settings["health"]["url"]
    if ports:
        return int(ports[0])
    return url_port(url) if url and "{port}" not in url and is_here(url) else None


def owner_on(paths: HostPaths, target: Mapping[str, Any], settings: Mapping[str, Any]) -> Optional[Owner]:
    """Who owns what runs on *target*; None where the keeper itself does."""
    owner = setting(target, settings)
    return owner_of(paths, owner) if owner is not None else None


def scope_of(target: Mapping[str, Any]) -> str:
    """Whose the units of *target* are: those of systemd, "system" or "user", or "launchd"."""
    supervisor = str(target.get("supervisor"))
    return supervisor if supervisor == "launchd" else _SYSTEMD.get(supervisor, "system")
