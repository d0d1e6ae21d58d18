"""
Where the services beside an app live: `services/NAME/` below the app's path, each with a record, a keeper and a log of its own.

What they run is the app's: its releases, its shared files, its secrets, its copies of the engine.
"""

from __future__ import annotations

import os
from typing import Dict

from deployer.host import unix
from deployer.host.paths import HostPaths

SERVICES = "services"


class ServicePaths(HostPaths):
    """The names of one service's own files, and of those that it has from the app at *app*."""

    def __init__(self, app: HostPaths, name: str) -> None:
        super().__init__(app.root / SERVICES / name)
        self.releases, self.shared = app.releases, app.shared
        self.secrets, self.engines = app.secrets, app.engines


def home(app: HostPaths, name: str) -> ServicePaths:
    """The home of the service *name* of the app at *app*, whether or not it is there."""
    return ServicePaths(app, name)


def homes(app: HostPaths) -> Dict[str, ServicePaths]:
    """The homes that are there, by name: of what runs, should run, or has run once."""
    try:
        names = sorted(os.listdir(app.root / SERVICES))
    except OSError:
        return {}
    found = {name: home(app, name) for name in names}
    return {name: paths for name, paths in found.items() if paths.state.exists()}


def prepare(app: HostPaths, name: str) -> ServicePaths:
    """The home of *name*, made if it is not there yet. Raises PreflightError where its path is too long for this system."""
    paths = home(app, name)
    unix.require_short(paths.keeper_socket)
    paths.prepare_private()
    return paths
