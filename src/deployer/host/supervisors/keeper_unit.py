"""Where systemd owns the services, it also starts the keeper: out of every login session, and again at boot."""

from __future__ import annotations

import json
from typing import Optional, Tuple

from deployer.errors import DeployerError
from deployer.host import disk, engine
from deployer.host.paths import HostPaths
from deployer.host.say import say
from deployer.host.supervisors import systemd_units
from deployer.host.supervisors.systemctl import Manager


def install(paths: HostPaths, app: str, scope: str) -> None:
    """Have the keeper of *app* started by the systemd of *scope*. Where that fails it is started as ever."""
    try:
        manager = Manager(scope)
        unit = f"{app}-deployer.service"
        argv = engine.argv(engine.install(paths), "keeper", str(paths.root))
        log, boot = str(paths.engine_log), manager.boot_target()
        text = systemd_units.engine(app, argv, engine.environment("keeper"), log, boot)
        if manager.write(manager.directory() / unit, text):
            manager.reload()
            manager.ask("enable", "--no-reload", "--", unit)
        disk.write_atomically(str(paths.keeper_unit), json.dumps({"scope": manager.scope, "unit": unit}).encode())
    except (DeployerError, OSError) as error:
        say(f"systemd does not start the keeper: {error}")


def start(paths: HostPaths) -> bool:
    """Whether systemd has started the keeper; it serves then."""
    named = _named(paths)
    if named is None:
        return False
    try:
        Manager(named[0]).ask("start", "--", named[1])
        return True
    except DeployerError as error:
        say(f"systemd does not start the keeper: {error.cause or error}")
        return False


def _named(paths: HostPaths) -> Optional[Tuple[str, str]]:
    try:
        said = json.loads(paths.keeper_unit.read_text("utf-8"))
        return str(said["scope"]), str(said["unit"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
