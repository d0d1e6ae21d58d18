"""Look at the host and change nothing: what runs, on which release, with which work; what is not as the config says."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from deployer.errors import DeployerError, PreflightError
from deployer.host import acceptor, adopt, drain_history, health, lock, ports, sockets, spawn, waiting
from deployer.host.beside import seen
from deployer.host.deploy import DRAIN, in_drain, settings_of, unfinished
from deployer.host.health import Answer
from deployer.host.instance import Instance, alive_rows, from_row
from deployer.host.journal import timestamp
from deployer.host.paths import HostPaths
from deployer.host.process import Processes, Stat
from deployer.host.ready import is_here, url_port
from deployer.host.state import State
from deployer.host.supervisors import builtin, choose
from deployer.host.tree import Tree
from deployer.wire.redaction import Redactor

Facts = Dict[str, Any]


class Observer:
    """One look at one app on this host. *settings* are those of the config, *target* where it goes."""

    def __init__(
        self, paths: HostPaths, target: Dict[str, Any], settings: Dict[str, Any], processes: Processes
    ) -> None:
        self._paths = paths
        self._target = target
        self._settings = settings
        self._processes = processes
        self._state = State(paths.state) if paths.state.exists() else None
        self._instances: List[Instance] = []
        self._members: Dict[str, List[Stat]] = {}
        self._keeper_says: Dict[str, Any] = {}

    def facts(self) -> Facts:
        """Everything of docs/architecture.md's "Facts"."""
        if self._state is not None:
            self._instances = [from_row(row, self._processes) for row in alive_rows(self._state)]
            self._members = {one.id: one.members() for one in self._instances}
        self._keeper_says = builtin.look(self._paths) or {}
        running = self.running()
        draining = self._draining()
        # While it is drained the old one is whom to ask: it knows the work that everybody waits for.
        asked = running or (draining[-1] if draining else None)
        settings = self._running_settings(asked) or self._settings
        return {
            "exists": self._paths.private.is_dir(),
            "app": self._state.meta("app") if self._state else None,
            "path": str(self._paths.root),
            "current": self._current(),
            "last_good": self._state.meta("last_good") if self._state else None,
            "instance": running and self._describe(running, "running"),
            "draining": [self._describe(one, "draining") for one in draining],
            "starting": [self._describe(one, "starting") for one in self._starting(running)],
            "parts": [self._describe(one, "running") for one in self._alive_parts()],
            "services": seen.look(self._paths, self._processes),
            "drains": self._drains(),
            "health": self._redacted(asked, _health_json(self._ask(settings, asked))),
            "keeper": {"pid": self._keeper_says["pid"]} if self._keeper_says else None,
            "health_url": filled_url(settings, running.spec.port if running else None)
            if settings["health"]["url"]
            else None,
            "crashes": self._crashes(),
            "restart_in_s": self._keeper_says.get("restart_in_s"),
            "desired": self._state.meta("desired") if self._state else None,
            "under_way": self._under_way(),
            "waiting": waiting.waiting(self._paths.waiting),
            "releases": self.releases(),
            "disk": self._disk(),
            "env_file": self._has_env_file(),
            "python": sys.version.partition(" ")[0],
            "adopt": None,
            "gap": self._gap_of(running.tree, running.spec.socket) if running is not None else None,
            "settings": settings if running else None,
            "problems": [],
        }

    def problems(self, facts: Facts) -> List[DeployerError]:
        """What keeps a deploy from starting; also fills `facts["adopt"]` with the process that would be adopted."""
        found: List[DeployerError] = []
        if facts["app"] not in (None, self._settings["app"]):
            found.append(other_app(facts, self._settings["app"]))
        members = {process["pid"] for one in self._known(facts) for process in one["processes"]}
        members |= {pid for one in facts["services"] for pid in one["pids"]}
        if self._target.get("adopt") and not self._had_instance():
            try:
                how = {**self._target["adopt"], "scope": choose.scope_of(self._target)}
                adopted = adopt.find(how, self._processes)
            except DeployerError as error:
                return [*found, error]
            facts["adopt"] = adopted.summary(self._processes)
            members |= self._tree_of(adopted)
            facts["gap"] = self._gap_of(Tree(self._processes, adopted.identity, None))
        owner = choose.owner_on(self._paths, self._target, self._settings)
        if owner is not None:
            try:
                owner.require(self._settings["app"])
            except DeployerError as error:
                found.append(error)
        if facts["keeper"]:
            members.add(facts["keeper"]["pid"])
        return found + self._forgotten(members) + self._strangers(members)

    def _forgotten(self, members: set[int]) -> List[DeployerError]:
        """Processes that deployer once started here, and that a record which is gone knew: not to be started a second time."""
        if self._had_instance() or not os.path.lexists(self._paths.root / "current"):
            return []
        inside = f"{os.path.realpath(self._paths.releases)}/"
        found = [
            pid
            for pid in set(self._processes.table()) - members
            if b"DEPLOYER_INSTANCE=" in self._processes.environ(pid)
            and f"{self._processes.cwd(pid)}/".startswith(inside)
        ]
        return [_unknown(found, self._processes)] if found else []

    def _had_instance(self) -> bool:
        # A push that failed at a gate has left a record, and yet nothing of ours has ever run: still to be adopted.
        return self._state is not None and self._state.row("SELECT 1 FROM instances LIMIT 1") is not None

    def running(self) -> Optional[Instance]:
        """The instance that serves now: alive, not asked to stop, and wished for rather than on trial."""
        assert self._state is not None or not self._instances
        desired = self._state.meta("desired") if self._state is not None else None
        apps = [one for one in self._instances if one.spec.part is None]
        serving = [one for one in reversed(apps) if not self._is_draining(one) and self._members[one.id]]
        return next((one for one in serving if one.id == desired), serving[0] if serving else None)

    def close(self) -> None:
        for one in self._instances:
            one.tree.close()
        if self._state is not None:
            self._state.close()

    def _draining(self) -> List[Instance]:
        apps = [one for one in self._instances if one.spec.part is None]
        return [one for one in apps if self._is_draining(one) and self._members[one.id]]

    def _starting(self, running: Optional[Instance]) -> List[Instance]:
        return [
            one for one in self._instances
            if one is not running and one.spec.part is None and not self._is_draining(one) and self._members[one.id]
        ]  # fmt: skip

    def _alive_parts(self) -> List[Instance]:
        """The services and the job of a run."""
        return [one for one in self._instances if one.spec.part is not None and self._members[one.id]]

    def _drains(self) -> Optional[Dict[str, Any]]:
        found = drain_history.past(self._state) if self._state is not None else None
        return found and {**found, "warning": drain_history.warning(found, self._settings["drain"]["ceiling"])}

    def _is_draining(self, one: Instance) -> bool:
        assert self._state is not None
        return self._state.row("SELECT 1 FROM drains WHERE instance=? AND verdict IS NULL", one.id) is not None

    def _describe(self, one: Instance, state: str) -> Dict[str, Any]:
        members = self._members[one.id]
        return {
            "id": one.id,
            "release": one.spec.release,
            "pid": one.main.pid,
            "started_at": timestamp(one.started_at),
            "uptime_s": round(max(0.0, time.time() - one.started_at), 1),
            "state": state,
            "part": one.spec.part,
            "confirmed": one.confirmed,
            "command": self._command(one),
            "unit": (one.spec.owner or {}).get("unit"),
            "status": self._said_by(one),
            "port": one.spec.port or next(iter(sockets.tcp_ports(one.spec.socket)), None),
            # Also one that a revert has started again as it was found: there is no release of that name.
            "adopted": one.adopted or self._running_settings(one) is None,
            "processes": [one.tree.describe(stat) for stat in members],
            "hears": self._processes.heard(
                [stat.pid for stat in members], signal.Signals[self._settings["drain"]["signal"]]
            ),
        }

    def _command(self, one: Instance) -> str:
        # Of a service that commands start, only the process itself says what it is.
        by_commands = (one.spec.owner or {}).get("kind") == "command"
        return self._processes.command(one.main.pid) if by_commands else " ".join(one.spec.argv)

    def _running_settings(self, running: Optional[Instance]) -> Optional[Dict[str, Any]]:
        if running is None or self._state is None:
            return None
        return settings_of(self._state, running.spec.release)

    def _ask(self, settings: Dict[str, Any], asked: Optional[Instance]) -> Answer:
        table = settings["health"]
        private = self._paths.health_socket(asked.id) if asked is not None and asked.spec.private_health else None
        if private is None and (not table["url"] or (asked is None and not self._target.get("adopt"))):
            return health.NO_URL
        url = filled_url(settings, asked.spec.port if asked is not None else None)
        others = [one for one in self._instances if one is not asked and self._members[one.id]]
        if private is None and asked is not None and others and is_here(url):
            own = {stat.pid for stat in self._members[asked.id]}
            return acceptor.ask_one_of(own, url, table["timeout"], table["busy"])[0]
        return health.ask(url, table["timeout"], table["busy"], private)

    def _redacted(self, asked: Optional[Instance], said: Dict[str, Any]) -> Any:
        # An app may put anything into the name of a task.
        if asked is None or asked.spec.secrets_file is None:
            return said
        try:
            return Redactor(spawn.read_secrets(Path(asked.spec.secrets_file)))(said)
        except DeployerError:  # damaged: nobody can say what must not be shown
            return {**said, "tasks": []}

    def _said_by(self, one: Instance) -> Optional[str]:
        known = {said["id"]: said for said in self._keeper_says.get("instances", [])}
        text: Optional[str] = known.get(one.id, {}).get("status")  # sd_notify STATUS=
        return text

    def _under_way(self) -> Optional[Dict[str, Any]]:
        if self._state is None:
            return None
        row = unfinished(self._state)
        held = None if lock.free(self._paths.lock) else lock.holder(self._paths.lock)
        if row is None and held is not None:
            return {**held, "step": "prepare"}
        row = row or next(iter(reversed(in_drain(self._state))), None)
        if row is None:
            return None
        # Who only waits for a drain holds a lock of his own, which says nobody's name.
        alone = row["step"] == DRAIN and not lock.free(self._paths.drain_lock(row["id"]))
        by = {"pid": None} if alone else (held if row["step"] != DRAIN else None) or {}
        return {
            "deploy": row["id"], "kind": row["kind"], "who": row["who"], "since": row["started_at"],
            "step": row["step"], "pid": by.get("pid"), "release": row["release"], "running": bool(by),
        }  # fmt: skip

    def releases(self) -> List[Dict[str, Any]]:
        """What is on this host, the newest first."""
        if self._state is None:
            return []
        current = self._current()
        rows = self._state.rows(
            "SELECT id, hash, state, created_at, files, bytes FROM releases ORDER BY created_at DESC, id DESC"
        )
        return [
            dict(row, current=row["id"] == current, created_at=timestamp(row["created_at"]))
            for row in rows
            if (self._paths.release(row["id"])).is_dir()
        ]

    def _current(self) -> Optional[str]:
        try:
            return os.path.basename(os.readlink(self._paths.root / "current"))
        except OSError:
            return None

    def _disk(self) -> Dict[str, int]:
        path: Path = self._paths.root
        while not path.exists():
            path = path.parent
        free = os.statvfs(path)
        return {"free_bytes": free.f_bavail * free.f_frsize, "free_inodes": free.f_favail}

    def _has_env_file(self) -> bool:
        name = self._settings["run"]["env_file"]
        return bool(name) and (self._paths.shared / str(name)).is_file()

    def _crashes(self) -> Optional[Dict[str, Any]]:
        """How often in a row what should run has crashed, and how it ended last; None when it has not."""
        if self._state is None:
            return None
        row = self._state.row("SELECT crashes, release FROM instances WHERE id=?", self._state.meta("desired"))
        if not row or not row["crashes"]:
            return None
        last = self._state.row(
            "SELECT exit_code, error FROM instances WHERE release=? AND state='ended' ORDER BY ended_at DESC LIMIT 1",
            row["release"],
        )
        return {"count": row["crashes"], **(last or {})}

    def _known(self, facts: Facts) -> List[Dict[str, Any]]:
        return [one for one in [facts["instance"], *facts["draining"], *facts["starting"], *facts["parts"]] if one]

    def _gap_of(self, tree: Tree, own: Any = None) -> Optional[str]:
        """Why nobody would listen on one of the wanted sockets while the old process goes; None where somebody always will."""
        wanted = sockets.named(sockets.below(self._settings["run"]["socket"], self._paths.shared)).values()
        held = sockets.named(own).values()
        for address in [address for address in wanted if address not in held]:
            other = next((one for one in held if sockets.collide(one, address)), None)
            if other:
                return f"{address} can only be listened on once {other} has been let go of"
            tree.refresh()
            if sockets.listens(tree.handles(), address) and not sockets.takeable(tree.handles(), address):
                return f"pid {tree.main.pid} listens on {address} by itself, and its socket cannot be taken over"
        return None

    def _tree_of(self, adopted: adopt.Found) -> set[int]:
        tree = Tree(self._processes, adopted.identity, None)
        try:
            return {stat.pid for stat in tree.refresh()}
        finally:
            tree.close()

    def _strangers(self, members: set[int]) -> List[DeployerError]:
        found: List[DeployerError] = []
        for port in service_ports(self._settings):
            inodes = ports.listening(port)
            if not inodes:
                continue
            owners = ports.holders(inodes, self._processes.table())
            if not owners or not set(owners) & members:
                found.append(_stranger(port, owners, self._processes))
        return found


def service_ports(settings: Dict[str, Any]) -> List[int]:
    """The ports of this machine that the service itself is meant to listen on."""
    from urllib.parse import urlsplit

    run = settings["run"]
    found = [
        *(run["ports"] if settings["strategy"] == "overlap" else run["ports"][:1]),
        *sockets.tcp_ports(run["socket"]),
    ]
    url = settings["health"]["url"]
    host = urlsplit(url.replace("{port}", "1")).hostname or "" if url else ""
    if url and "{port}" not in url and (host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.")):
        found.append(url_port(url))
    return sorted(set(found))


def port_of(settings: Dict[str, Any]) -> Optional[int]:
    """What `{port}` and PORT mean for a release with these settings; None where no port is known."""
    run = settings["run"]
    return next((int(port) for port in [*sockets.tcp_ports(run["socket"]), *run["ports"]]), None)


def filled_url(settings: Dict[str, Any], port: Optional[int] = None) -> str:
    """`health.url` with *port* filled in, by default the one that the settings name."""
    url = settings["health"]["url"] or "http://localhost/health"  # without one it is asked on its private socket
    return str(url).replace("{port}", str(port or port_of(settings)))


def _health_json(answer: Answer) -> Dict[str, Any]:
    return {
        "health": answer.health, "good": answer.good, "busy": answer.busy, "tasks": answer.tasks,
        "release": answer.release, "pid": answer.pid,
    }  # fmt: skip


def _unknown(pids: List[int], processes: Processes) -> PreflightError:
    return PreflightError(
        "a process runs here that deployer has started, and its record does not know it",
        cause="\n".join(f"pid {pid} {processes.command(pid, 120)}" for pid in sorted(pids)),
        state="it was not touched, and nothing was changed",
        hint="put state.db back where it was; or let the next push take the process over with [adopt] (pidfile, port or match)",
    )


def _stranger(port: int, owners: List[int], processes: Processes) -> PreflightError:
    who = "\n".join(f"pid {pid} {processes.command(pid, 120)}" for pid in owners) or "a process of another user"
    return PreflightError(
        f"port {port} is held by a process that deployer did not start",
        cause=who,
        state="it was not touched, and nothing was changed",
        hint=f"if that is the service, let the first push take it over with [adopt] port = {port}; "
        "otherwise stop it or choose another port",
    )


def other_app(facts: Facts, app: str) -> PreflightError:
    return PreflightError(
        f'{facts["path"]} belongs to the app "{facts["app"]}", not to "{app}"',
        state="nothing was changed",
        hint="give this app a path of its own in [target.NAME]",
    )
