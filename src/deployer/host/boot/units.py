"""A systemd unit that starts the service when the machine comes up: of the system, or of a user's own manager."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Optional

from deployer.errors import DeployerError, PreflightError
from deployer.host.limits.units import SYSTEM, USER
from deployer.host.paths import HostPaths
from deployer.host.supervisors.systemctl import Manager, lingers, user_name
from deployer.host.supervisors.systemd_units import MARK, command, quote

MARGIN = 60
"""Seconds that systemd waits beyond the ceiling."""
_BOOTED = "/run/systemd/private"
"""Where systemd as PID 1 is spoken to; `/run/systemd/system` may stand in a container that another init has started."""

_TEXT = """{mark}
# Written by `deployer enable`, which also writes it anew; `deployer disable` removes it.
[Unit]
Description={app}, brought back after a reboot by deployer
{order}RequiresMountsFor={root}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={start}
# The keeper goes first; then each process of the app gets its signal, and has as long as a drain may take.
ExecStop={stop}
KillMode=control-group
KillSignal={signal}
TimeoutStopSec={timeout}

[Install]
WantedBy={wanted}
"""
_ORDER = "Wants=network-online.target\nAfter=network-online.target\n"


def name_of(app: str) -> str:
    """The unit's name."""
    return f"{app}-deployer.service"


class BootUnit:
    """The unit of one app in one *scope*."""

    def __init__(self, paths: HostPaths, app: str, scope: str) -> None:
        self._paths, self._app, self._scope = paths, app, scope
        self.way = "systemd" if scope == SYSTEM else "systemd-user"
        self._manager = Manager(scope)
        self._wanted = self._manager.boot_target()
        self._file = self._manager.directory() / name_of(app)
        self._link = self._file.parent / f"{self._wanted}.wants" / name_of(app)
        self._mark = f'# deployer: app "{app}" at {json.dumps(str(paths.root))}'

    def possible(self) -> Optional[str]:
        """None where this way is open; else what was looked for and is not there."""
        if self._scope == SYSTEM:
            if os.geteuid() != 0:
                return "a system unit: only root may install one"
            return None if os.path.exists(_BOOTED) else f"systemd as PID 1: there is no {_BOOTED}"
        socket = f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.getuid()}'}/systemd/private"
        return None if os.path.exists(socket) else f"a systemd of this user: there is no {socket}"

    def where(self) -> Optional[str]:
        """The unit's file, where it is ours and enabled."""
        return str(self._file) if self._ours() and os.path.lexists(self._link) else None

    def doubt(self) -> Optional[Dict[str, str]]:
        """Why the unit would not be started at boot, though it is enabled, and what helps (`why`, `hint`)."""
        return lingering() if self._scope == USER else None

    def install(self, drain: Dict[str, Any]) -> bool:
        """Whether something had to be changed. Raises PreflightError for a unit that is not ours, or where systemd refuses."""
        if self._file.exists() and not self._ours() and not self._first_line().startswith(f"{MARK} for {self._app},"):
            raise _not_ours(self._file, self._first_line())
        text = self.text(drain)
        old = self._content()
        if old != text:
            self._manager.write(self._file, text)
            self._systemctl("daemon-reload")
        # What a supervisor of before has left: through it the keeper would be started by this very unit, which waits for it.
        self._paths.keeper_unit.unlink(missing_ok=True)
        linked = os.path.lexists(self._link)
        if not linked:
            self._systemctl("enable", name_of(self._app))
        return old != text or not linked

    def remove(self) -> bool:
        """Whether there was a unit of ours. What runs in it goes on."""
        if not self._ours():
            return False
        self._systemctl("disable", name_of(self._app))
        self._file.unlink()
        self._systemctl("daemon-reload")
        return True

    def text(self, drain: Dict[str, Any]) -> str:
        """The unit's file."""
        return _TEXT.format(
            mark=self._mark, app=self._app, root=quote(str(self._paths.root)),
            start=command(["/bin/sh", str(self._paths.boot), "start"]), stop=command(["/bin/sh", str(self._paths.boot), "stop"]),
            signal=drain["signal"], timeout=int(drain["ceiling"]) + MARGIN, wanted=self._wanted,
            order=_ORDER if self._scope == SYSTEM else "",
        )  # fmt: skip

    def _ours(self) -> bool:
        return self._first_line() == self._mark

    def _first_line(self) -> str:
        return self._content().partition("\n")[0]

    def _content(self) -> str:
        try:
            return self._file.read_text("utf-8", "replace")
        except OSError:
            return ""

    def _systemctl(self, *args: str) -> None:
        try:
            self._manager.ask(*args)
        except DeployerError as error:
            raise PreflightError(
                error.title,
                cause=error.cause,
                state=f"the service runs on as it did; {self._file} "
                + ("is there" if self._file.exists() else "is not there"),
                hint="mend that, and call the same command again",
            ) from error


def lingering() -> Optional[Dict[str, str]]:
    """None where the systemd of this user is started at boot; else why it is not, and what helps."""
    if lingers():
        return None
    user = user_name()
    return {
        "why": f"lingering is off for {user}: their systemd, and the service, start when they log in and not before",
        "hint": f"loginctl enable-linger {user} (as root), then `deployer enable` again",
    }


def _not_ours(file: Path, first: str) -> PreflightError:
    theirs = first if first.startswith("# deployer: ") else "it has no mark of deployer"
    return PreflightError(
        f"{file} exists and is not of this service",
        cause=theirs,
        state="it was not touched, and nothing was changed",
        hint="an app at two places of one host needs two names; a unit of your own: rename or remove it",
    )
