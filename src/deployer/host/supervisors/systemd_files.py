"""The files of an app's units: what is written of a release, of how it stops and of whether it has proven itself, and read back."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from deployer.errors import GateError, PreflightError
from deployer.host import disk, engine, unit_journal
from deployer.host.paths import HostPaths
from deployer.host.supervisors import systemd_units
from deployer.host.supervisors.systemctl import Manager, seconds
from deployer.host.supervisors.systemd_sockets import SocketUnits, unit_of
from deployer.model import DrainOrder, Spec

OLD_SERVES = "the old release still serves; its process was not touched"
STOP_DROPIN, UNPROVEN_DROPIN = "50-deployer-stop.conf", "60-deployer-unproven.conf"
KEPT_FOR = 86400.0
"""Seconds for which it is kept how a run of a unit ended."""
_PERSONAL = ("HOME", "USER", "LOGNAME", "SHELL", "XDG_RUNTIME_DIR")
_AFTER_MAIN = """#!/bin/sh
# Written by deployer. systemd runs it when the main process of a unit has exited: how that ended is kept, and what lives on of
# it is asked to stop, once, and waited for. Argument: the signal.
ended="$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS"
kept="${0%/*}/ended-$INVOCATION_ID"
echo "$ended" > "$kept"
signal=$1
while IFS= read -r line; do
    case $line in 0::*) group=${line#0::} ;; *:name=systemd:*) older=${line#*:name=systemd:} ;; esac
done < /proc/self/cgroup
left=
for top in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
    [ "$top" != /sys/fs/cgroup/systemd ] || group=$older
    [ -n "${group#/}" ] || continue
    [ -r "$top$group/cgroup.procs" ] || continue
    group=$top$group/cgroup.procs
    while read -r pid; do
        [ "$pid" = $$ ] || left="$left $pid"
    done < "$group"
    break
done
[ -n "$left" ] || exit 0
# Until they have gone, the record says that some are left; it stays so where they have not by the ceiling. systemd tells the
# ceiling by a signal to this and to what waits, and would take the unit for ended, with all that live on, were this to go then.
echo "$ended left" > "$kept"
trap '' TERM INT QUIT HUP USR1 USR2 WINCH
{leftover} "$signal" "$group" $left && echo "$ended" > "$kept"
"""


def is_foreign(spec: Spec) -> bool:
    """Whether the unit of *spec* is somebody else's, adopted as it is."""
    return bool(spec.owner and spec.owner.get("foreign"))


def settings_of(spec: Spec) -> Dict[str, Any]:
    """The user's own settings of the unit."""
    return dict((spec.owner or {}).get("settings") or {})


class UnitFiles:
    """The files that *manager* reads for the app at *paths*. What writes them says whether anything is new: then it is reloaded."""

    def __init__(self, paths: HostPaths, manager: Manager) -> None:
        self._paths = paths
        self._manager = manager
        self._sockets = SocketUnits(paths, manager)
        self._units = paths.private / "units"

    # A release -------------------------------------------------------------------------------------------------------

    def check(self, new: Spec, env: Mapping[str, str]) -> None:
        """Raises GateError where systemd would not take the unit of *new*. It is not told of it."""
        path = self._units / "check" / unit_of(new)
        try:
            self._units.mkdir(mode=0o700, exist_ok=True)
            self._manager.write(path, self._text(new, env, []))
            complaints = self._manager.complaints(path)
        finally:
            disk.remove_quietly(str(path.parent))
        if complaints:
            raise GateError(
                "systemd does not take run.systemd", cause="\n".join(complaints[:10]), state=OLD_SERVES,
                hint="correct run.systemd (systemd.exec(5), systemd.service(5), systemd.resource-control(5))",
            )  # fmt: skip

    def write(self, new: Spec, env: Mapping[str, str], olds: Sequence[Spec], proven: bool) -> bool:
        """The units of *new*, which starts with *env* in the place of *olds*. Raises DeployerError where a name is taken."""
        written = [*self._sockets.write(new, olds), self._service(new, env, olds), self.prove(new, proven)]
        return any(written)

    def _service(self, new: Spec, env: Mapping[str, str], olds: Sequence[Spec]) -> bool:
        settings = settings_of(new)
        kept = {name: env[name] for name in env if "User" not in settings or name not in _PERSONAL}
        self._units.mkdir(mode=0o700, exist_ok=True)
        disk.write_atomically(str(self._env_file(new)), systemd_units.environment(kept).encode())
        # Here and not in the unit: of the engines only the newest are kept, and a unit may run for a year.
        leftover = shlex.join(engine.argv(engine.install(self._paths), "leftover"))
        self._manager.write(self._units / "after.sh", _AFTER_MAIN.replace("{leftover}", leftover))
        return self._manager.write(self._manager.directory() / unit_of(new), self._text(new, env, olds))

    def _env_file(self, spec: Spec) -> Path:
        return self._units / f"{unit_of(spec)}.env"

    def _text(self, new: Spec, env: Mapping[str, str], olds: Sequence[Spec]) -> str:
        order = DrainOrder(**new.drain) if new.drain else DrainOrder()
        others = [unit_of(old) for old in olds if unit_of(old) != unit_of(new)]
        return systemd_units.service(
            new.app, new.release, _resolved(new, env), new.cwd, str(self._env_file(new)),
            ["/bin/sh", str(self._units / "after.sh"), _to_leftover(order)], self._output(new), order, self._all(new),
            self._sockets.names(new), others, self._manager.boot_target(),
        )  # fmt: skip

    def _all(self, spec: Spec) -> Dict[str, Any]:
        """The unit's further settings: pauses between restarts that grow where systemd knows them, and the user's own."""
        return {**(systemd_units.BACKOFF if self._manager.version() >= 254 else {}), **settings_of(spec)}

    def _output(self, spec: Spec) -> str:
        if unit_journal.kept(spec.owner):
            return "journal"
        self._paths.logs.mkdir(mode=0o700, exist_ok=True)
        return f"append:{self._paths.app_log}".replace("%", "%%")

    def preview(self, new: Spec, env: Mapping[str, str], now: Optional[Spec]) -> List[str]:
        """What would change in the units, as a unified diff: nothing is written."""
        texts = [(unit_of(new), self._text(new, env, [now] if now is not None else [])), *self._sockets.texts(new, [])]
        found: List[str] = []
        for unit, text in texts:
            old = unit_of(now) if now is not None and unit == unit_of(new) else unit
            try:
                before = (self._manager.directory() / old).read_text("utf-8")
            except OSError:
                before = ""
            if now is not None:  # its name is in every line, and no news
                before = before.replace(now.release, new.release)
            found += difflib.unified_diff(before.splitlines(), text.splitlines(), old, unit, lineterm="", n=0)
        return found

    # What holds until the next boot ----------------------------------------------------------------------------------

    def prove(self, spec: Spec, proven: bool) -> bool:
        """Only once it is *proven* is *spec* started again after a crash."""
        path = self._dropin(spec, UNPROVEN_DROPIN)
        return _remove(path) if proven else self._manager.write(path, systemd_units.unproven(spec.app))

    def order(self, spec: Spec, how: DrainOrder) -> bool:
        """*spec* is stopped as *how* says, from now on."""
        now = self._manager.show(unit_of(spec), ("TimeoutStopUSec", "KillSignal"))
        number = str(int(signal.Signals[how.signal]))
        if seconds(now.get("TimeoutStopUSec", "")) == how.ceiling and (
            now.get("KillSignal") == number or is_foreign(spec)
        ):
            return False
        text = systemd_units.stop_order(spec.app, how, foreign=is_foreign(spec))
        return self._manager.write(self._dropin(spec, STOP_DROPIN), text)

    def forget_order(self, spec: Spec) -> bool:
        """The order of a stop that is over: the unit's own ceiling counts again."""
        return _remove(self._dropin(spec, STOP_DROPIN))

    def _dropin(self, spec: Spec, name: str) -> Path:
        return self._manager.passing_directory() / f"{unit_of(spec)}.d" / name

    # Whose they are --------------------------------------------------------------------------------------------------

    def require(self, app: str) -> None:
        """Raises PreflightError where there are units of these names that are not this app's."""
        for path in [
            *self._manager.directory().glob(f"{app}@*.service"),
            self._manager.directory() / f"{app}-deployer.service",
        ]:
            try:
                text = path.read_text("utf-8", "replace")
            except OSError:
                continue
            if not text.startswith(systemd_units.MARK) or systemd_units.escaped(f"{self._paths.root}/") not in text:
                raise PreflightError(
                    f"there is a unit {path.name} already, which is not this app's",
                    cause=f"{path} belongs to another service" + (" of deployer" if text.startswith(systemd_units.MARK) else ""),
                    state="nothing was changed", hint="give one of the two another name (`app` in deploy.toml), or remove the unit",
                )  # fmt: skip

    def stale(self, app: str, releases: Sequence[str]) -> List[str]:
        """The units of *app* that are of none of *releases*."""
        found = self._manager.directory().glob(f"{app}@*.service")
        gone = [path for path in found if not _belongs(path.name, app, releases)]
        return [path.name for path in gone if path.read_text("utf-8", "replace").startswith(systemd_units.MARK)]

    def remove(self, unit: str) -> None:
        """Remove the files of *unit*."""
        path = self._manager.directory() / unit
        _remove(path)
        _remove(path.with_name(f"{path.stem}.health.socket"))
        _remove(self._units / f"{unit}.env")

    # What a unit itself wrote ----------------------------------------------------------------------------------------

    def ended(self, run: str) -> Optional[Tuple[str, str, str, bool]]:
        """How *run* of a unit ended: result, how, with which status, and whether processes were left; None where nobody knows."""
        try:
            result, how, status, *left = (self._units / f"ended-{run}").read_text("ascii").split()
        except (OSError, ValueError):
            return None
        return result, how, status, bool(left)

    def forget_ended(self) -> None:
        """Of runs that ended long ago."""
        for ended in self._units.glob("ended-*"):
            if time.time() - ended.stat().st_mtime > KEPT_FOR:
                _remove(ended)


def _resolved(spec: Spec, env: Mapping[str, str]) -> List[str]:
    """The command with the program's whole path: systemd looks for others in its own places only."""
    name = spec.argv[0]
    found = str(Path(spec.cwd, name)) if "/" in name else shutil.which(name, path=env.get("PATH"))
    return [os.path.normpath(found or name), *spec.argv[1:]]


def _to_leftover(order: DrainOrder) -> str:
    """What those get that outlive the main process: the signal, unless all have had theirs at once."""
    return "0" if order.signal_to == "tree" else order.signal


def _belongs(unit: str, app: str, releases: Sequence[str]) -> bool:
    """Whether *unit* is of one of *releases*; one that runs beside another of its release has one more word."""
    name = unit[len(app) + 1 : -len(".service")]
    return any(name == release or name.startswith(f"{release}.") for release in releases)


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
