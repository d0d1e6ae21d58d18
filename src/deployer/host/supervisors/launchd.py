"""
launchd owns the process: it starts it, starts it again after a crash, and at boot. The keeper stops it.

A stop by launchd (`bootout`) ends in SIGKILL after ExitTimeOut, which some versions hold down to 60 s in a user's session
whatever the plist says. So the keeper asks by a signal of its own, as it does for its children, and waits for the whole
tree; launchd is only told beforehand not to start it again, and afterwards to forget it. Nothing here is one transaction:
a keeper that died goes on from the record.

Not run on macOS by us: docs/launchd.md.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import Callable, List, Mapping, Optional, Sequence

from deployer.errors import DeployerError, PreflightError
from deployer.host import disk, engine
from deployer.host.paths import HostPaths
from deployer.host.say import say
from deployer.host.supervisors import launchctl, launchd_plists, owner
from deployer.host.supervisors.launchctl import Job, Launchctl
from deployer.host.supervisors.owner import Seen
from deployer.model import DrainOrder, Spec


class Launchd:
    """`owner.Owner` by launchd for the app at *paths*."""

    stops = False
    whole = True

    def __init__(self, paths: HostPaths) -> None:
        self._paths = paths
        self._units = paths.private / "units"

    # Where an instance is known by which name ------------------------------------------------------------------------

    def placed(self, spec: Spec, others: Sequence[Spec]) -> Spec:
        assert spec.owner is not None
        if spec.owner.get("foreign"):
            return spec
        # A label per release: two may run beside each other, and one that launchd has not yet let go of is in nobody's way.
        label = f"{_prefix(spec.app)}{spec.release}"
        if any(one.owner is not None and label_of(one) == label for one in others):
            label = f"{label}.{spec.id}"
        return changed(spec, owner={**spec.owner, "unit": label, "domain": launchctl.domain_here()})

    def require(self, app: str) -> None:
        launchctl.require()
        path = _boot_directory(launchctl.domain_here()) / f"{_prefix(app)[:-1]}.plist"
        if path.exists() and f"{self._paths.root}/".encode() not in path.read_bytes():
            raise PreflightError(
                f"there is a {path.name} already, which is not this app's",
                cause=f"{path} belongs to another service",
                state="nothing was changed",
                hint="give one of the two another name (`app` in deploy.toml), or remove it",
            )

    # Files -----------------------------------------------------------------------------------------------------------

    def check(self, new: Spec, env: Mapping[str, str]) -> None:
        """There are no settings of the user's in it."""

    def preview(self, new: Spec, env: Mapping[str, str], now: Optional[Spec]) -> List[str]:
        new = self.placed(new, [])
        before = _text(self._file(now, "plist")) if now is not None and (now.owner or {}).get("unit") else ""
        if now is not None:  # its name is in every line, and no news
            before = before.replace(now.release, new.release)
        name = f"{label_of(new)}.plist"
        after = self._plist(new).decode()
        return list(difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="", n=0))

    def prepare(self, new: Spec, env: Mapping[str, str], olds: Sequence[Spec], how: DrainOrder, proven: bool) -> None:
        if not _is_foreign(new):
            self._units.mkdir(mode=0o700, exist_ok=True)
            self._paths.logs.mkdir(mode=0o700, exist_ok=True)
            disk.write_atomically(str(self._file(new, "sh")), launchd_plists.script(env).encode())
            disk.write_atomically(str(self._file(new, "plist")), self._plist(new))
            self._keep_alive(new, proven)
        for old in olds:
            self.order(old, how)

    def _plist(self, spec: Spec) -> bytes:
        order = DrainOrder(**spec.drain) if spec.drain else DrainOrder()
        script, keep, log = self._file(spec, "sh"), self._file(spec, "keep"), self._paths.app_log
        domain = str((spec.owner or {})["domain"])
        return launchd_plists.job(label_of(spec), spec.argv, spec.cwd, str(script), str(log), str(keep), order, domain)

    def _file(self, spec: Spec, kind: str) -> Path:
        return self._units / f"{label_of(spec)}.{kind}"

    def _keep_alive(self, spec: Spec, wanted: bool) -> None:
        if wanted:
            self._file(spec, "keep").touch(mode=0o600)
        else:
            self._file(spec, "keep").unlink(missing_ok=True)

    # Jobs ------------------------------------------------------------------------------------------------------------

    def swap(self, new: Spec, olds: Sequence[Spec]) -> bool:
        return False

    def start(self, new: Spec) -> None:
        here, label = _launchctl(new), label_of(new)
        job = here.job(label)
        if job is not None and job.pid is None and not job.coming:
            here.bootout(label)  # of an earlier run: launchd reads a plist anew only when it loads it
            job = None
        if job is None or job.leaving:
            if _is_foreign(new):
                here.enable(label, True)
            here.bootstrap(
                label, Path(str((new.owner or {})["plist"])) if _is_foreign(new) else self._file(new, "plist")
            )
        job = here.job(label)
        if job is not None and job.pid is None and not job.coming and not job.runs:
            here.kickstart(label)

    def order(self, spec: Spec, how: DrainOrder) -> None:
        """From now on launchd lets *spec* go; the keeper asks it to."""
        if not _is_foreign(spec):
            self._keep_alive(spec, False)

    def stop(self, spec: Spec) -> None:
        """Have launchd forget *spec*, whose processes have gone."""
        _launchctl(spec).bootout(label_of(spec))

    def kill(self, spec: Spec) -> None:
        _launchctl(spec).kill(label_of(spec), "SIGKILL")

    def extend(self, spec: Spec, how: DrainOrder, ceiling: float) -> None:
        """The keeper counts: launchd has been asked nothing."""

    # What runs -------------------------------------------------------------------------------------------------------

    def seen(self, spec: Spec, run: Optional[str] = None) -> Seen:
        job = _launchctl(spec).job(label_of(spec))
        if job is None:
            return Seen(owner.ENDED, run or "")
        now = _seen(job)
        return Seen(owner.ENDED, run, code=job.code, text=job.said) if run and now.run != run else now

    # What shall run --------------------------------------------------------------------------------------------------

    def confirm(self, spec: Optional[Spec], others: Sequence[Spec]) -> None:
        kept = label_of(spec) if spec is not None else None
        for one in others:
            if label_of(one) != kept and not _is_foreign(one):
                self._keep_alive(one, False)
        for label, domain in sorted({(label_of(one), _domain(one)) for one in others if _is_foreign(one)}):
            if label != kept:
                _try(partial(Launchctl(domain).enable, label, False))
        if spec is not None and not _is_foreign(spec):
            self._keep_alive(spec, True)
            _write(self._at_boot(spec), self._plist(spec))
        elif spec is not None or others:
            self._at_boot(spec or others[0]).unlink(missing_ok=True)

    def _at_boot(self, spec: Spec) -> Path:
        # One file per app: what runs after a boot changes by one rename.
        return _boot_directory(_domain(spec)) / f"{_prefix(spec.app)[:-1]}.plist"

    def forget(self, app: str, releases: Sequence[str]) -> None:
        prefix = _prefix(app)
        for plist in self._units.glob(f"{prefix}*.plist"):
            name = plist.stem[len(prefix) :]
            if not any(name == release or name.startswith(f"{release}.") for release in releases):
                for kind in ("keep", "sh", "plist"):
                    plist.with_name(f"{plist.stem}.{kind}").unlink(missing_ok=True)


def keep_at_boot(paths: HostPaths, app: str) -> None:
    """Have launchd start the keeper of *app* after a boot, to finish what is not. Where that fails it is started as ever."""
    try:
        domain = launchctl.domain_here()
        label = f"{_prefix(app)}keeper"
        argv = engine.argv(engine.install(paths), "keeper", str(paths.root))
        text = launchd_plists.keeper(label, argv, engine.environment("keeper"), str(paths.engine_log), domain)
        _write(_boot_directory(domain) / f"{label}.plist", text)
    except (DeployerError, OSError) as error:
        say(f"launchd does not start the keeper at boot: {error}")


def label_of(spec: Spec) -> str:
    assert spec.owner is not None
    return str(spec.owner["unit"])


def _prefix(app: str) -> str:
    return f"deployer.{app}."


def _domain(spec: Spec) -> str:
    return str((spec.owner or {})["domain"])


def _launchctl(spec: Spec) -> Launchctl:
    return Launchctl(_domain(spec))


def _is_foreign(spec: Spec) -> bool:
    return bool(spec.owner and spec.owner.get("foreign"))


def _seen(job: Job) -> Seen:
    run = str(job.runs) if job.runs else ""
    if job.leaving:
        return Seen(owner.STOPPING, run, job.pid)
    if job.coming:
        return Seen(owner.STARTING, run, code=job.code)
    if job.pid is not None:
        return Seen(owner.RUNNING, run, job.pid)
    return Seen(owner.ENDED, run, code=job.code, text=job.said or None)


def _boot_directory(domain: str) -> Path:
    """Where launchd looks for what it starts by itself: at boot the machine's, at the login a user's."""
    return Path("/Library/LaunchDaemons") if domain == "system" else Path(os.path.expanduser("~/Library/LaunchAgents"))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _write(path: Path, content: bytes) -> None:
    try:
        if path.read_bytes() == content:
            return
    except OSError:
        pass
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    disk.write_atomically(str(path), content, mode=0o644)


def _try(change: Callable[[], None]) -> None:
    try:
        change()
    except DeployerError as error:  # what serves is worth more
        say(f"{error}: {error.cause}")
