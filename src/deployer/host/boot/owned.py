"""Where systemd owns the services: their own units start at boot, and `enable` only has to say so again after a `disable`."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Optional

from deployer.errors import DeployerError
from deployer.host.boot.units import lingering, name_of
from deployer.host.limits.units import USER
from deployer.host.paths import HostPaths
from deployer.host.state import opened
from deployer.host.supervisors.systemctl import Manager


class Owned:
    """The unit of what runs, and the keeper's. Each push enables the unit of its release."""

    def __init__(self, paths: HostPaths, app: str, scope: str) -> None:
        self._paths, self._app = paths, app
        self._manager = Manager(scope)
        self.way = "systemd-user" if scope == USER else "systemd"

    def possible(self) -> Optional[str]:
        if self._manager.scope != USER and os.geteuid() != 0:
            return 'supervisor = "systemd": its units are root\'s'
        return None if self._service() else "a unit of a release that shall run: push first"

    def where(self) -> Optional[str]:
        """The unit of the release that runs, where it is enabled."""
        unit = self._service()
        return unit if unit is not None and self._state(unit) == "enabled" else None

    def doubt(self) -> Optional[Dict[str, str]]:
        return lingering() if self._manager.scope == USER else None

    def install(self, drain: Dict[str, Any]) -> bool:
        return self._set("enable", ("disabled",))

    def remove(self) -> bool:
        return self._set("disable", ("enabled",))

    def _set(self, verb: str, where: "tuple[str, ...]") -> bool:
        units = [unit for unit in self._units() if self._state(unit) in where]
        if units:
            self._manager.ask(verb, "--", *units)
        return bool(units)

    def _units(self) -> List[str]:
        unit = self._service()
        return [*([unit] if unit else []), name_of(self._app)]

    def _service(self) -> Optional[str]:
        with opened(self._paths.state) as state:
            row = state.row("SELECT spec FROM instances WHERE id=?", state.meta("desired")) if state else None
        owner = json.loads(row["spec"]).get("owner") if row else None
        return str(owner["unit"]) if owner and owner.get("unit") else None

    def _state(self, unit: str) -> Optional[str]:
        try:
            return self._manager.show(unit, ("UnitFileState",)).get("UnitFileState")
        except DeployerError:
            return None
