"""
systemd owns the process: a unit per release, written from its settings; one transaction for the swap.

What was asked of systemd completes whoever of us dies. Who was asked to stop is never asked twice: a unit that is being
stopped takes no second request for a new one.
"""

from __future__ import annotations

import signal
from dataclasses import replace as changed
from pathlib import Path
from typing import List, Mapping, Optional, Sequence

from deployer.errors import DeployerError, GateError
from deployer.host.paths import HostPaths
from deployer.host.say import say
from deployer.host.supervisors import owner
from deployer.host.supervisors.owner import Seen
from deployer.host.supervisors.systemctl import Manager
from deployer.host.supervisors.systemd_files import UnitFiles, is_foreign, settings_of
from deployer.host.supervisors.systemd_sockets import unit_of
from deployer.model import DrainOrder, Spec

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


class Systemd:
    """`owner.Owner` by the systemd of *scope* for the app at *paths*."""

    stops = True
    whole = True

    def __init__(self, paths: HostPaths, scope: str) -> None:
        self._manager = Manager(scope)
        self._files = UnitFiles(paths, self._manager)

    # Where an instance is known by which name ------------------------------------------------------------------------

    def placed(self, spec: Spec, others: Sequence[Spec]) -> Spec:
        assert spec.owner is not None
        if spec.owner.get("foreign"):
            return spec
        unit = f"{spec.app}@{spec.release}.service"
        if any(one.owner is not None and self._excludes(unit_of(one), unit) for one in others):
            unit = f"{spec.app}@{spec.release}.{spec.id}.service"
        journal = JOURNAL.exists() and "StandardOutput" not in settings_of(spec)
        return changed(spec, owner={**spec.owner, "unit": unit, "journal": journal})

    def _excludes(self, other: str, unit: str) -> bool:
        """Whether starting *unit* would stop *other*: it is the same, or has once taken its place (Conflicts= counts both ways)."""
        return other == unit or unit in self._manager.show(other, ("Conflicts",)).get("Conflicts", "").split()

    # Files -----------------------------------------------------------------------------------------------------------

    def check(self, new: Spec, env: Mapping[str, str]) -> None:
        if not is_foreign(new) and settings_of(new):
            self._files.check(self.placed(new, []), env)

    def prepare(self, new: Spec, env: Mapping[str, str], olds: Sequence[Spec], how: DrainOrder, proven: bool) -> None:
        # One that stops already has its order: systemd would apply another one to the stop that is under way.
        written = [self._files.order(old, how) for old in olds if self.seen(old).state != owner.STOPPING]
        if all(unit_of(old) != unit_of(new) for old in olds):
            written.append(self._files.forget_order(new))
        if not is_foreign(new):
            written.append(self._files.write(new, env, olds, proven))
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

    def preview(self, new: Spec, env: Mapping[str, str], now: Optional[Spec]) -> List[str]:
        """What would change in the units, as a unified diff: nothing is written."""
        return self._files.preview(self.placed(new, []), env, now)

    def require(self, app: str) -> None:
        """Raises PreflightError when this systemd cannot be asked, or has units of these names that are not this app's."""
        self._manager.require()
        self._files.require(app)

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
        if self._files.order(spec, how):
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
        ended = self._files.ended(now.run)
        if ended is None:
            return now
        result, how, status, left = ended
        return changed(now, code=_code(how, status), forced=now.forced or result == "timeout" or left)

    # What shall run --------------------------------------------------------------------------------------------------

    def confirm(self, spec: Optional[Spec], others: Sequence[Spec]) -> None:
        changes = []
        keep = unit_of(spec) if spec is not None and not is_foreign(spec) else None
        if spec is not None and keep is not None:
            changes = [self._files.prove(spec, proven=True), self._boot(keep, "enable")]
        if spec is not None:
            changes.append(self._files.forget_order(spec))
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
        stale = self._files.stale(app, releases)
        for unit in stale:
            self._boot(unit, "disable")
            self._files.remove(unit)
        if stale:
            self._manager.reload()
        self._files.forget_ended()


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
