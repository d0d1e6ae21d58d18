"""nginx's own command: what it says of its configuration, and where its pid stands."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from deployer.errors import PoolError
from deployer.host.pools import calls
from deployer.host.pools.base import UNTOUCHED

_HEADING = "# configuration file "


class Command:
    """`command` of the pool, run under its `timeout`."""

    def __init__(self, settings: Dict[str, Any]) -> None:
        self._argv: List[str] = list(settings.get("command") or ["nginx"])
        self._timeout = float(settings["timeout"])
        self._pidfile = settings.get("pidfile")

    def test(self) -> str:
        """The whole config as nginx reads it. Raises PoolError with nginx's own words when it would not load it."""
        said = calls.run([*self._argv, "-T"], self._timeout)
        if said.code != 0:
            raise PoolError(
                "nginx refuses its configuration",
                cause=said.err.strip()[-calls.SHOWN :] or f"{' '.join(self._argv)} -T: exit {said.code}",
                state=UNTOUCHED,
                hint=f"mend it, ask `{' '.join(self._argv)} -t`, then push again",
            )
        return said.out

    def reload(self) -> None:
        """Ask for a reload, which is only a signal. Raises PoolError when not even that could be done."""
        said = calls.run([*self._argv, "-s", "reload"], self._timeout)
        if said.code != 0:
            raise PoolError("nginx could not be reloaded", cause=said.words)

    def pidfile(self) -> Path:
        """Where nginx keeps its pid. Raises PoolError when nobody says."""
        if self._pidfile:
            return Path(os.path.expanduser(self._pidfile))
        compiled = calls.run([*self._argv, "-V"], self._timeout).err
        found = pidfile(self.test(), compiled, self._argv)
        if found is None:
            hint = 'add pidfile = "/run/nginx.pid" to the pool of this target'
            raise PoolError("nginx's pid file is not known", cause="no `pid` in its config", hint=hint)
        return found


def sections(dump: str) -> Dict[str, str]:
    """The files that nginx read, by their real path, without comments; *dump* is what `nginx -T` printed."""
    parts = [part.partition(":\n") for part in re.split(f"(?m)^{_HEADING}", dump)[1:]]
    return {os.path.realpath(name): re.sub(r"(?m)^\s*#.*$", "", text) for name, _, text in parts}


def pidfile(dump: str, compiled: str, command: Sequence[str]) -> Optional[Path]:
    """Where nginx keeps its pid: *dump* is the output of `nginx -T`, *compiled* that of `nginx -V`."""
    prefix = _option(command, "-p") or _match(r"--prefix=(\S+)", compiled) or "/"
    given = " ".join(command[place + 1] for place, word in enumerate(command[:-1]) if word == "-g")
    pattern = r"(?:^|[;{}\s])pid\s+[\"']?([^\s;\"']+)[\"']?\s*;"
    path = _match(pattern, given + ";") or _match(pattern, re.sub(r"(?m)^\s*#.*$", "", dump))
    path = path or _match(r"--pid-path=(\S+)", compiled)
    return Path(prefix, path) if path else None


def _option(command: Sequence[str], name: str) -> Optional[str]:
    return next((command[place + 1] for place, word in enumerate(command[:-1]) if word == name), None)


def _match(pattern: str, text: str) -> Optional[str]:
    found = re.search(pattern, text)
    return found[1] if found else None
