"""Which owner a target's `supervisor` means: a new one is a file and a line here."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from deployer.errors import DeployerError
from deployer.host.paths import HostPaths
from deployer.host.supervisors.launchd import Launchd
from deployer.host.supervisors.owner import Owner
from deployer.host.supervisors.systemd import Systemd

_SYSTEMD = {"systemd": "system", "systemd-user": "user"}


def owner_of(paths: HostPaths, owner: Mapping[str, Any]) -> Owner:
    """Who owns the process of an instance with `Spec.owner` *owner*."""
    if owner["kind"] == "systemd":
        return Systemd(paths, str(owner["scope"]))
    if owner["kind"] == "launchd":
        return Launchd(paths)
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
    return None


def owner_on(paths: HostPaths, target: Mapping[str, Any], settings: Mapping[str, Any]) -> Optional[Owner]:
    """Who owns what runs on *target*; None where the keeper itself does."""
    owner = setting(target, settings)
    return owner_of(paths, owner) if owner is not None else None


def scope_of(target: Mapping[str, Any]) -> str:
    """Whose the units of *target* are: those of systemd, "system" or "user", or "launchd"."""
    supervisor = str(target.get("supervisor"))
    return supervisor if supervisor == "launchd" else _SYSTEMD.get(supervisor, "system")
