"""What a client may ask that changes nothing of a release: facts, the past, logs; and whether a reboot brings the service back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from deployer.errors import DeployerError, PreflightError, UsageError
from deployer.host import following, observe, traffic, unit_journal
from deployer.host.beside import homes
from deployer.host.connection import Connection
from deployer.host.paths import HostPaths
from deployer.host.process import Processes
from deployer.host.releases import Releases
from deployer.host.state import opened
from deployer.host.wake import wake

Params = Dict[str, Any]


class Looking:
    """Looks at the app at *paths* for the client of *connection*."""

    def __init__(self, paths: HostPaths, processes: Processes, connection: Connection) -> None:
        self._paths = paths
        self._processes = processes
        self._connection = connection

    def observe(self, params: Params) -> Params:
        """The facts, with what speaks against a deploy; with `wake`, once what should run does."""
        trouble = self._wake_or_tell() if params.get("wake") else None
        facts, problems = self.look(params["target"], params["settings"])
        if trouble is not None:
            problems = [trouble, *problems]
        facts["problems"] = [problem.to_json() for problem in problems]
        if params.get("pool"):
            facts["pool"] = _pool_says(params["target"], params["settings"])
        if params.get("boot"):
            from deployer.host.boot import enabling

            facts["boot"] = enabling.look(self._paths, params["settings"]["app"], params["target"]["supervisor"])
        if params.get("limits"):
            from deployer.host.limits import reading  # only who looks at the ladder pays for it

            facts.update(reading.read(self._paths, params["target"], params["settings"], facts, self._processes))
        return facts

    def look(self, target: Params, settings: Params) -> Tuple[Params, List[DeployerError]]:
        """The facts of this host, and what speaks against a deploy."""
        observer = observe.Observer(self._paths, target, settings, self._processes)
        try:
            facts = observer.facts()
            return facts, observer.problems(facts)
        finally:
            observer.close()

    def _wake_or_tell(self) -> Optional[DeployerError]:
        # A disk that lets nobody start anything must not hide what runs.
        try:
            wake(self._paths, self._processes)
            return None
        except OSError as error:
            return os_error(error)
        except DeployerError as error:
            return error

    def boot(self, params: Params) -> Params:
        """Let a reboot bring the service back, or not (`what`: enable, disable); which way, and whether that changed anything."""
        from deployer.host.boot import enabling

        app = str(params["settings"]["app"])
        with opened(self._paths.state) as state:
            other = state.meta("app") if state is not None else None
        if other not in (None, app):
            raise observe.other_app({"path": str(self._paths.root), "app": other}, app)
        supervisor = str(params["target"]["supervisor"])
        if params["what"] == "disable":
            return enabling.disable(self._paths, app, supervisor)
        return enabling.enable(self._paths, app, params["settings"]["drain"], supervisor)

    def releases(self, params: Params) -> List[Params]:
        """The releases of this host, as `deployer releases` shows them."""
        observer = observe.Observer(self._paths, params["target"], params["settings"], self._processes)
        try:
            return observer.releases()
        finally:
            observer.close()

    def history(self, params: Params) -> List[Params]:
        """Its deploys, newest first."""
        from deployer.host import history

        return history.past(self._paths, int(params.get("limit") or 50))

    def explain(self, params: Params) -> Params:
        """One deploy, told step by step."""
        from deployer.host import explaining  # no push needs it, and every push would pay for it

        return explaining.explain(
            self._paths, params.get("deploy"), lambda: self.look(params["target"], params["settings"])[0]
        )

    def verify(self, params: Params) -> List[str]:
        """What is not as it was staged in a release that may be rolled back to; empty when it is whole."""
        release = str(params["release"])
        manifest = Releases(self._paths.root).manifest(release)
        if manifest is None:
            return [f"the manifest of {release} is missing"]
        directory = self._paths.release(release)
        absent = [entry.path for entry in manifest.files if not (directory / entry.path).is_file()]
        return [f"{path} is missing" for path in absent[:5]]

    def logs(self, params: Params) -> Params:
        """Send the last lines of the app's output, and with `follow` those that come, until the client goes."""
        lines, goes_on = int(params["lines"]), bool(params["follow"])
        if params.get("service"):
            log_of = self._log_of(str(params["service"]))
            following.follow_log(log_of, lines, goes_on, self._connection.send, self._connection.gone)
            return {}
        app, owner, log = self._owner()
        if unit_journal.kept(owner):
            unit_journal.follow(owner, app, lines, goes_on, self._connection.send, self._connection.gone)
        else:
            following.follow_log(self._paths.logs / log, lines, goes_on, self._connection.send, self._connection.gone)
        return {}

    def _log_of(self, service: str) -> Path:
        """Of a service beside the app, or of one of a run."""
        found = [homes.home(self._paths, service).app_log, self._paths.logs / f"service-{service}.log"]
        for path in found:
            if path.is_file():
                return path
        raise UsageError(f"there is no log of a service {service} here", cause=f"looked for {found[0]} and {found[1]}")

    def _owner(self) -> Tuple[str, Params, str]:
        """The app's name, who owns the process that was started last, and the name of its log."""
        with opened(self._paths.state) as state:
            row = (
                state.row("SELECT spec FROM instances ORDER BY created_at DESC, rowid DESC LIMIT 1") if state else None
            )
        spec = json.loads(row["spec"]) if row else {}
        return str(spec.get("app")), spec.get("owner") or {}, spec.get("log") or self._paths.app_log.name


def _pool_says(target: Params, settings: Params) -> Optional[Params]:
    """The kind of the target's pool, and why it could not be used; None without one."""
    if not target.get("pool"):
        return None
    try:
        traffic.check(target, settings)
    except DeployerError as error:
        return {"kind": target["pool"]["kind"], "error": error.to_json()}
    return {"kind": target["pool"]["kind"], "error": None}


def os_error(error: OSError) -> DeployerError:
    """*error* for a person."""
    where = f": {error.filename}" if error.filename else ""
    return PreflightError(
        f"the host refused{where}", cause=error.strerror or str(error), state="the running release was not touched"
    )
