"""A systemd unit that starts the service when the machine comes up: of the system, or of a user's own manager."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional

from deployer.errors import PreflightError
from deployer.host import disk
from deployer.host.limits.units import SYSTEM, USER
from deployer.host.paths import HostPaths

WITHIN = 30.0
MARGIN = 60
"""Seconds that systemd waits beyond the ceiling."""
_LINGER = "/var/lib/systemd/linger"
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
ExecStart=/bin/sh {boot} start
# The keeper goes first; then each process of the app gets its signal, and has as long as a drain may take.
ExecStop=/bin/sh {boot} stop
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
        self._wanted = "multi-user.target" if scope == SYSTEM else "default.target"
        self._file = _directory(scope) / name_of(app)
        self._link = _directory(scope) / f"{self._wanted}.wants" / name_of(app)
        self._mark = f'# deployer: app "{app}" at {json.dumps(str(paths.root))}'

    def possible(self) -> Optional[str]:
        """None where this way is open; else what was looked for and is not there."""
        if self._scope == SYSTEM:
            if os.geteuid() != 0:
                return "a system unit: only root may install one"
            return None if os.path.exists(_BOOTED) else f"systemd as PID 1: there is no {_BOOTED}"
        socket = f"{_runtime()}/systemd/private"
        return None if os.path.exists(socket) else f"a systemd of this user: there is no {socket}"

    def where(self) -> Optional[str]:
        """The unit's file, where it is ours and enabled."""
        return str(self._file) if self._ours() and os.path.lexists(self._link) else None

    def doubt(self) -> Optional[Dict[str, str]]:
        """Why the unit would not be started at boot, though it is enabled, and what helps (`why`, `hint`)."""
        user = _user()
        if self._scope == SYSTEM or os.path.exists(f"{_LINGER}/{user}"):
            return None
        return {
            "why": f"lingering is off for {user}: their systemd, and the service, start when they log in and not before",
            "hint": f"loginctl enable-linger {user} (as root), then `deployer enable` again",
        }

    def install(self, drain: Dict[str, Any]) -> bool:
        """Whether something had to be changed. Raises PreflightError for a unit that is not ours, or where systemd refuses."""
        if self._file.exists() and not self._ours():
            raise _not_ours(self._file, self._first_line())
        text = self.text(drain)
        old = self._content()
        if old != text:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            disk.write_atomically(str(self._file), text.encode())
            os.chmod(self._file, 0o644)
            self._systemctl("daemon-reload")
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
            mark=self._mark, app=self._app, root=_word(str(self._paths.root)), boot=_word(str(self._paths.boot)),
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
        _run(["systemctl", *(["--user"] if self._scope == USER else []), *args], self._file)


def _word(text: str) -> str:
    """*text* as one word of a unit file, whatever is in it: quoted, and no specifier or variable."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _directory(scope: str) -> Path:
    if scope == SYSTEM:
        return Path("/etc/systemd/system")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(config, "systemd", "user")


def _runtime() -> str:
    return os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _run(argv: List[str], file: Path) -> None:
    env = {**os.environ, "XDG_RUNTIME_DIR": _runtime()}
    try:
        subprocess.run(
            argv, check=True, capture_output=True, timeout=WITHIN, text=True, env=env, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PreflightError(
            f"`{' '.join(argv)}` failed",
            cause=(getattr(error, "stderr", None) or str(error)).strip(),
            state=f"the service runs on as it did; {file} " + ("is there" if file.exists() else "is not there"),
            hint="mend that, and call the same command again",
        ) from error


def _not_ours(file: Path, first: str) -> PreflightError:
    theirs = first if first.startswith("# deployer: ") else "it has no mark of deployer"
    return PreflightError(
        f"{file} exists and is not of this service",
        cause=theirs,
        state="it was not touched, and nothing was changed",
        hint="an app at two places of one host needs two names; a unit of your own: rename or remove it",
    )
