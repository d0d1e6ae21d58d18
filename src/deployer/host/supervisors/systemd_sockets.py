"""The socket units of an app: they outlive every instance, and connections wait there while none runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import List, Sequence, Tuple

from deployer.errors import DeployerError
from deployer.host import sockets
from deployer.host.paths import HostPaths
from deployer.host.supervisors import systemd_units
from deployer.host.supervisors.systemctl import Manager
from deployer.model import Spec


def unit_of(spec: Spec) -> str:
    """The unit that *spec*, which systemd owns, runs as."""
    assert spec.owner is not None
    return str(spec.owner["unit"])


class SocketUnits:
    """The sockets that releases of the app at *paths* inherit from *manager*."""

    def __init__(self, paths: HostPaths, manager: Manager) -> None:
        self._paths = paths
        self._manager = manager

    def names(self, spec: Spec) -> List[str]:
        """The socket units that *spec* inherits from."""
        return [unit for _, unit, _ in self._listens(spec)]

    def texts(self, new: Spec, olds: Sequence[Spec]) -> List[Tuple[str, str]]:
        """Each of them with its text; *olds* stop before *new* starts."""
        return [(unit, self._text(new, name, unit, listen, olds)) for name, unit, listen in self._listens(new)]

    def write(self, new: Spec, olds: Sequence[Spec]) -> List[bool]:
        """Whether each of them is new. Raises DeployerError where a name is somebody else's."""
        written = []
        guard = f"{new.app}-guard.service"
        for unit, text in self.texts(new, olds):
            self._require_ours(new, unit, guard)
            written.append(self._manager.write(self._manager.directory() / unit, text))
        if written:
            written.append(self._manager.write(self._manager.directory() / guard, systemd_units.guard(new.app)))
        if new.private_health:
            self._link_health(new)
        return written

    def _require_ours(self, new: Spec, *units: str) -> None:
        for path in [self._manager.directory() / unit for unit in units]:
            if path.exists() and not path.read_text("utf-8", "replace").startswith(systemd_units.mark(new.app)):
                raise DeployerError(
                    f"there is a unit {path.name} already, which is not this app's",
                    cause=f"{path} belongs to another service", state="the old release serves",
                    hint="disable and remove that unit, or give one of the two another name (`app` in deploy.toml)",
                )  # fmt: skip

    def _link_health(self, new: Spec) -> None:
        """The socket is its unit's, which a restart of the release keeps; the name by which it is asked is the instance's."""
        link = self._paths.health_socket(new.id)
        link.unlink(missing_ok=True)
        link.symlink_to(self._health_of(new).name)

    def _health_of(self, spec: Spec) -> Path:
        return self._paths.health_socket(hashlib.sha256(unit_of(spec).encode()).hexdigest()[: len(spec.id)])

    def _text(self, new: Spec, name: str, unit: str, listen: str, olds: Sequence[Spec]) -> str:
        by_themselves = [unit_of(old) for old in olds if unit not in self.names(old)]
        private = unit.endswith(".health.socket")
        return systemd_units.socket(new.app, name, listen, f"{new.app}-guard.service", by_themselves, private)

    def _listens(self, spec: Spec) -> List[Tuple[str, str, str]]:
        """name, unit, address of every socket that *spec* inherits."""
        named = sockets.named(spec.socket)
        units = {name: f"{spec.app}.socket" if len(named) == 1 else f"{spec.app}-{name}.socket" for name in named}
        found = [(name, units[name], _listen(address)) for name, address in named.items()]
        if spec.private_health:
            unit = unit_of(spec)[: -len(".service")] + ".health.socket"
            found.append(("health", unit, str(self._health_of(spec))))
        return found


def _listen(address: str) -> str:
    return address[len(sockets.UNIX) :] if address.startswith(sockets.UNIX) else address
