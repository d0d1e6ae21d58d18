"""
systemd owns the process: a unit per release, written from its settings; one transaction for the swap.

What was asked of systemd completes whoever of us dies. Who was asked to stop is never asked twice: a unit that is being
stopped takes no second request for a new one.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shlex
import shutil
import signal
import time
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from deployer.errors import DeployerError, GateError, PreflightError
from deployer.host import disk, engine, sockets, unit_journal
from deployer.host.paths import HostPaths
from deployer.host.say import say
from deployer.host.supervisors import owner, systemd_units
from deployer.host.supervisors.owner import Seen
from deployer.host.supervisors.systemctl import Manager, seconds
from deployer.model import DrainOrder, Spec

OLD_SERVES = "the old release still serves; its process was not touched"
STOP_DROPIN, UNPROVEN_DROPIN = "50-deployer-stop.conf", "60-deployer-unproven.conf"
KEPT_FOR = 86400.0
"""Seconds for which it is kept how a run of a unit ended."""
JOURNAL = Path("/run/systemd/journal/stdout")
_SHOWN = (
    "LoadState", "ActiveState", "SubState", "MainPID", "ExecMainPID", "ExecMainCode", "ExecMainStatus", "InvocationID", "Result",
    "Job", "StatusText",
)  # fmt: skip
_STATES = {
    "active": owner.RUNNING,
    "reloading": owner.RUNNING,
    "refreshing": owner.RUNNING,
    "activating": owner.STARTING,
    "deactivating": owner.STOPPING,
}
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


def unit_of(spec: Spec) -> str:
    assert spec.owner is not None
    return str(spec.owner["unit"])


class Systemd:
    """`owner.Owner` by the systemd of *scope* for the app at *paths*."""

    stops = True
    whole = True

    def __init__(self, paths: HostPaths, scope: str) -> None:
        self._paths = paths
        self._manager = Manager(scope)
        self._units = paths.private / "units"

    # Where an instance is known by which name ------------------------------------------------------------------------

    def placed(self, spec: Spec, others: Sequence[Spec]) -> Spec:
        assert spec.owner is not None
        if spec.owner.get("foreign"):
            return spec
        unit = f"{spec.app}@{spec.release}.service"
        if any(one.owner is not None and self._excludes(unit_of(one), unit) for one in others):
            unit = f"{spec.app}@{spec.release}.{spec.id}.service"
        journal = JOURNAL.exists() and "StandardOutput" not in _settings(spec)
        return changed(spec, owner={**spec.owner, "unit": unit, "journal": journal})

    def _excludes(self, other: str, unit: str) -> bool:
        """Whether starting *unit* would stop *other*: it is the same, or has once taken its place (Conflicts= counts both ways)."""
        return other == unit or unit in self._manager.show(other, ("Conflicts",)).get("Conflicts", "").split()

    # Files -----------------------------------------------------------------------------------------------------------

    def check(self, new: Spec, env: Mapping[str, str]) -> None:
        if self._is_foreign(new) or not _settings(new):
            return
        new = self.placed(new, [])
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

    def prepare(self, new: Spec, env: Mapping[str, str], olds: Sequence[Spec], how: DrainOrder, proven: bool) -> None:
        # One that stops already has its order: systemd would apply another one to the stop that is under way.
        written = [self._ordered(old, how) for old in olds if self.seen(old).state != owner.STOPPING]
        if all(unit_of(old) != unit_of(new) for old in olds):
            written.append(_remove(self._dropin(new, STOP_DROPIN)))  # of a stop that is over
        if not self._is_foreign(new):
            written += self._sockets(new, olds)
            written += [self._service(new, env, olds), self._restarts(new, proven)]
        if any(written):
            self._manager.reload()
        self._require_loaded(new)

    def _require_loaded(self, new: Spec) -> None:
        shown = self._manager.show(unit_of(new), ("LoadState", "LoadError"))
        if shown.get("LoadState") != "loaded":
            raise GateError(
                f"systemd does not take {unit_of(new)}: {shown.get('LoadState')}",
                cause=shown.get("LoadError") or f"systemctl status {unit_of(new)} says more",
                state="the old release serves",
                hint="correct run.systemd, or the unit",
            )

    def _service(self, new: Spec, env: Mapping[str, str], olds: Sequence[Spec]) -> bool:
        settings = _settings(new)
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
            self._socket_units(new), others, self._manager.boot_target(),
        )  # fmt: skip

    def _all(self, spec: Spec) -> Dict[str, Any]:
        """The unit's further settings: pauses between restarts that grow where systemd knows them, and the user's own."""
        return {**(systemd_units.BACKOFF if self._manager.version() >= 254 else {}), **_settings(spec)}

    def preview(self, new: Spec, env: Mapping[str, str], now: Optional[Spec]) -> List[str]:
        """What would change in the units, as a unified diff: nothing is written."""
        new = self.placed(new, [])
        texts = [(unit_of(new), self._text(new, env, [now] if now is not None else []))]
        texts += [(unit, self._socket_text(new, name, unit, listen, [])) for name, unit, listen in self._listens(new)]
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

    def require(self, app: str) -> None:
        """Raises PreflightError when this systemd cannot be asked, or has units of these names that are not this app's."""
        self._manager.require()
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

    def _output(self, spec: Spec) -> str:
        if unit_journal.kept(spec.owner):
            return "journal"
        self._paths.logs.mkdir(mode=0o700, exist_ok=True)
        return f"append:{self._paths.app_log}".replace("%", "%%")

    def _sockets(self, new: Spec, olds: Sequence[Spec]) -> List[bool]:
        written = []
        guard = f"{new.app}-guard.service"
        for name, unit, listen in self._listens(new):
            self._require_ours(new, unit, guard)
            text = self._socket_text(new, name, unit, listen, olds)
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

    def _socket_text(self, new: Spec, name: str, unit: str, listen: str, olds: Sequence[Spec]) -> str:
        by_themselves = [unit_of(old) for old in olds if unit not in self._socket_units(old)]
        private = unit.endswith(".health.socket")
        return systemd_units.socket(new.app, name, listen, f"{new.app}-guard.service", by_themselves, private)

    def _socket_units(self, spec: Spec) -> List[str]:
        return [unit for _, unit, _ in self._listens(spec)]

    def _listens(self, spec: Spec) -> List[Tuple[str, str, str]]:
        """name, unit, address of every socket that *spec* inherits."""
        named = sockets.named(spec.socket)
        units = {name: f"{spec.app}.socket" if len(named) == 1 else f"{spec.app}-{name}.socket" for name in named}
        found = [(name, units[name], _listen(address)) for name, address in named.items()]
        if spec.private_health:
            unit = unit_of(spec)[: -len(".service")] + ".health.socket"
            found.append(("health", unit, str(self._health_of(spec))))
        return found

    def _restarts(self, spec: Spec, proven: bool) -> bool:
        path = self._dropin(spec, UNPROVEN_DROPIN)
        return _remove(path) if proven else self._manager.write(path, systemd_units.unproven(spec.app))

    def _ordered(self, spec: Spec, how: DrainOrder) -> bool:
        now = self._manager.show(unit_of(spec), ("TimeoutStopUSec", "KillSignal"))
        number = str(int(signal.Signals[how.signal]))
        if seconds(now.get("TimeoutStopUSec", "")) == how.ceiling and (
            now.get("KillSignal") == number or self._is_foreign(spec)
        ):
            return False
        text = systemd_units.stop_order(spec.app, how, foreign=self._is_foreign(spec))
        return self._manager.write(self._dropin(spec, STOP_DROPIN), text)

    def _dropin(self, spec: Spec, name: str) -> Path:
        return self._manager.passing_directory() / f"{unit_of(spec)}.d" / name

    def _is_foreign(self, spec: Spec) -> bool:
        return bool(spec.owner and spec.owner.get("foreign"))

    # Jobs ------------------------------------------------------------------------------------------------------------

    def swap(self, new: Spec, olds: Sequence[Spec]) -> bool:
        again = any(unit_of(old) == unit_of(new) for old in olds)
        self._manager.ask("restart" if again else "start", "--no-block", "--", unit_of(new))
        self._manager.begin("start", "--", unit_of(new))  # its exit tells us that the job has been done
        return True

    def start(self, new: Spec) -> None:
        self._manager.ask("start", "--no-block", "--", unit_of(new))
        self._manager.begin("start", "--", unit_of(new))

    def order(self, spec: Spec, how: DrainOrder) -> None:
        if self._ordered(spec, how):
            self._manager.reload()

    def stop(self, spec: Spec) -> None:
        self._manager.ask("stop", "--no-block", "--", unit_of(spec))
        self._manager.begin("stop", "--", unit_of(spec))

    def kill(self, spec: Spec) -> None:
        self._manager.ask("kill", "--kill-who=all", "--signal=SIGKILL", "--", unit_of(spec))

    def extend(self, spec: Spec, how: DrainOrder, ceiling: float) -> None:
        # systemd counts anew from the beginning of the stop when its files are read again.
        self.order(spec, changed(how, ceiling=ceiling))

    # What runs -------------------------------------------------------------------------------------------------------

    def seen(self, spec: Spec, run: Optional[str] = None) -> Seen:
        shown = self._manager.show(unit_of(spec), _SHOWN)
        now = _seen(shown)
        if run and now.run != run:
            return self._ended(Seen(owner.ENDED, run))
        return self._ended(now) if now.ended and now.run else now

    def _ended(self, now: Seen) -> Seen:
        """*now*, with what its unit wrote down when it ended."""
        try:
            result, how, status, *left = (self._units / f"ended-{now.run}").read_text("ascii").split()
        except (OSError, ValueError):
            return now
        return changed(now, code=_code(how, status), forced=now.forced or result == "timeout" or bool(left))

    # What shall run --------------------------------------------------------------------------------------------------

    def confirm(self, spec: Optional[Spec], others: Sequence[Spec]) -> None:
        changes = []
        keep = unit_of(spec) if spec is not None and not self._is_foreign(spec) else None
        if spec is not None and keep is not None:
            changes = [self._restarts(spec, proven=True), self._boot(keep, "enable")]
        if spec is not None:
            changes.append(
                _remove(self._dropin(spec, STOP_DROPIN))
            )  # of a stop that is over: the unit's own ceiling counts
        changes += [self._boot(unit, "disable") for unit in sorted({unit_of(one) for one in others} - {keep})]
        if any(changes):
            self._manager.reload()

    def _boot(self, unit: str, verb: str) -> bool:
        """Whether *unit* had to be told to start at boot, or not to (*verb*: enable, disable)."""
        if (self._manager.show(unit, ("UnitFileState",)).get("UnitFileState") == "enabled") is (verb == "enable"):
            return False
        try:
            self._manager.ask(verb, "--no-reload", "--", unit)
        except DeployerError as error:  # what serves is worth more
            say(f"systemctl {verb} {unit}: {error.cause or error}")
        return True

    def forget(self, app: str, releases: Sequence[str]) -> None:
        gone = [
            path
            for path in self._manager.directory().glob(f"{app}@*.service")
            if not _belongs(path.name, app, releases)
        ]
        for path in gone:
            if path.read_text("utf-8", "replace").startswith(systemd_units.MARK):
                self._boot(path.name, "disable")
                _remove(path)
                _remove(path.with_name(f"{path.stem}.health.socket"))
                _remove(self._units / f"{path.name}.env")
        if gone:
            self._manager.reload()
        for ended in self._units.glob("ended-*"):
            if time.time() - ended.stat().st_mtime > KEPT_FOR:
                _remove(ended)


def _seen(shown: Mapping[str, str]) -> Seen:
    state = _STATES.get(shown.get("ActiveState", ""), owner.ENDED)
    main = int(shown.get("MainPID") or 0)
    if state == owner.RUNNING and not main:
        state = owner.ENDED
    if state == owner.STARTING and main:
        state = owner.RUNNING  # it has to say that it is ready (Type=notify): whether it is, we prove ourselves
    ended = int(shown.get("ExecMainPID") or 0)
    how = {"1": "exited", "2": "killed", "3": "dumped"}.get(shown.get("ExecMainCode", ""), "")
    return Seen(
        state, shown.get("InvocationID", ""), main or ended or None,
        _code(how, shown.get("ExecMainStatus", "")) if not main else None,
        shown.get("Result") == "timeout", shown.get("Job", "0") not in ("", "0"),
        None if shown.get("Result", "success") == "success" else shown.get("Result"),
    )  # fmt: skip


def _code(how: str, status: str) -> Optional[int]:
    if how in ("killed", "dumped"):
        try:
            return -int(status) if status.isdigit() else -int(signal.Signals[f"SIG{status}"])
        except KeyError:
            return None
    return int(status) if how == "exited" and status.isdigit() else None


def _listen(address: str) -> str:
    return address[len(sockets.UNIX) :] if address.startswith(sockets.UNIX) else address


def _resolved(spec: Spec, env: Mapping[str, str]) -> List[str]:
    """The command with the program's whole path: systemd looks for others in its own places only."""
    name = spec.argv[0]
    found = str(Path(spec.cwd, name)) if "/" in name else shutil.which(name, path=env.get("PATH"))
    return [os.path.normpath(found or name), *spec.argv[1:]]


def _to_leftover(order: DrainOrder) -> str:
    """What those get that outlive the main process: the signal, unless all have had theirs at once."""
    return "0" if order.signal_to == "tree" else order.signal


def _settings(spec: Spec) -> Dict[str, Any]:
    """The user's own settings of the unit."""
    return dict((spec.owner or {}).get("settings") or {})


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
