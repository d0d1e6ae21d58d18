"""A line `@reboot` in the user's crontab: where there is no systemd that would start the service."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import Any, Dict, List, Optional

from deployer.errors import PreflightError
from deployer.host.paths import HostPaths
from deployer.host.process import here

WITHIN = 30.0
_DAEMONS = ("cron", "crond", "fcron", "dcron")


class Crontab:
    """The line of one app."""

    way = "crontab"

    def __init__(self, paths: HostPaths, app: str) -> None:
        command = f"/bin/sh {shlex.quote(str(paths.boot))} start"
        self._mark = f"# deployer: app {app} at {paths.root}"
        # To cron an unescaped % is the end of the line; to the shell our mark is a comment.
        self._line = f"@reboot {command} {self._mark}".replace("%", "\\%")

    def possible(self) -> Optional[str]:
        return None if shutil.which("crontab") else "crontab: there is no such command"

    def where(self) -> Optional[str]:
        """Where the line is, if it is there; None too where nobody can say."""
        try:
            return "@reboot in the crontab" if self.possible() is None and self._line in _lines() else None
        except PreflightError:
            return None

    def doubt(self) -> Optional[Dict[str, str]]:
        names = {stat.name for stat in here().table().values() if not stat.exited}
        if names & set(_DAEMONS):
            return None
        return {
            "why": "no cron daemon runs here, and who would read the crontab at boot?",
            "hint": "enable and start cron, then call `deployer enable` again",
        }

    def install(self, drain: Dict[str, Any]) -> bool:
        lines = _lines()
        kept = [line for line in lines if not self._ours(line)]
        if self._line in lines and len(kept) == len(lines) - 1:
            return False
        _write([*kept, self._line])
        return True

    def remove(self) -> bool:
        lines = _lines() if self.possible() is None else []
        kept = [line for line in lines if not self._ours(line)]
        if kept == lines:
            return False
        _write(kept)
        return True

    def _ours(self, line: str) -> bool:
        return line.startswith("@reboot ") and line.endswith(self._mark.replace("%", "\\%"))


def _lines() -> List[str]:
    """The user's crontab. Raises PreflightError where it cannot be read: what is not known must not be written over."""
    done = _crontab(["-l"], None)
    if done.returncode == 0:
        return done.stdout.splitlines()
    if "no crontab for" in done.stderr.lower() or "can't open" in done.stderr.lower():
        return []
    raise _refused(done.stderr)


def _write(lines: List[str]) -> None:
    done = _crontab(["-"], "".join(f"{line}\n" for line in lines))
    if done.returncode != 0:
        raise _refused(done.stderr)


def _crontab(args: List[str], text: Optional[str]) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            ["crontab", *args], input=text, capture_output=True, timeout=WITHIN, text=True, env=env,
            errors="surrogateescape", stdin=subprocess.DEVNULL if text is None else None,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise _refused(str(error)) from error


def _refused(said: str) -> PreflightError:
    return PreflightError(
        "the crontab could not be read or written",
        cause=said.strip() or "crontab said nothing",
        state="it was not changed",
        hint="see `crontab -l` as the user that deployer runs as on this host; /etc/cron.allow may leave him out",
    )
