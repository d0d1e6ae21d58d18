"""
The engine's end of one connection: frames on stdin and stdout, for as long as the client is there.

Until `commit` everything is tied to the client: when it goes, the lock goes and nothing has changed. `commit` forks the
runner, which is tied to nobody.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional

import deployer
from deployer.errors import AbortedError, DeployerError, LinkError, PreflightError
from deployer.host import (
    asking,
    disk,
    envfile,
    following,
    runner_process,
    spawn,
    traffic,
    units,
    unix,
)
from deployer.host.batch import home
from deployer.host.claim import Claim
from deployer.host.connection import Connection, Link
from deployer.host.control import WORDS
from deployer.host.deploy import Request, record, spec_of
from deployer.host.inflow import Inflow
from deployer.host.looking import Looking, os_error
from deployer.host.paths import HostPaths, resolve
from deployer.host.plan import RUN
from deployer.host.planner import Planner
from deployer.host.process import here, require_known_platform
from deployer.host.receiving import Receiving, checked
from deployer.host.state import State, opened
from deployer.host.supervisors import choose
from deployer.manifest import Manifest
from deployer.model import PROTOCOL, Spec
from deployer.wire import frames

MARGIN_BYTES = 16 * 1024 * 1024
MARGIN_INODES = 200
"""Left free beyond what a release needs: state.db, logs, and whatever else lives there."""

Params = Dict[str, Any]


class _Stopped(Exception):
    """Somebody has aborted what this agent prepares."""


class Agent:
    """Answers one client. Holds the deploy lock from `open` to `commit`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._send = connection.send
        self._processes = here()
        self._paths: HostPaths = HostPaths(resolve("/nonexistent"))
        self._looking = Looking(self._paths, self._processes, connection)
        self._claim: Optional[Claim] = None
        self._receiving: Optional[Receiving] = None
        self._discarding = False
        self._opened: Params = {}
        self._facts: Params = {}
        self._reading = False
        self._told_to_stop = False
        self._ops: Dict[str, Callable[[Params], Any]] = {
            "hello": self._hello,
            "observe": lambda params: self._looking.observe(params),
            "open": self._open,
            "have": self._have,
            "plan": self._plan,
            "entries": lambda params: self._upload().entries(params),
            "chunks": lambda params: self._upload().chunks(params),
            "blobs": self._blobs,
            "commit": self._commit,
            "follow": self._follow,
            "control": self._control,
            "releases": lambda params: self._looking.releases(params),
            "history": lambda params: self._looking.history(params),
            "explain": lambda params: self._looking.explain(params),
            "logs": lambda params: self._looking.logs(params),
            "verify": lambda params: self._looking.verify(params),
            "boot": lambda params: self._looking.boot(params),
        }

    def serve(self) -> None:
        """Answer requests until the client closes the connection, or until somebody aborts what it prepares."""
        while True:
            try:
                request = self._next()
                if request is None:
                    return
                if isinstance(request, bytes):
                    self._discard(request)
                    continue
                answer = self._answer(request)
            except _Stopped:
                self._send({"id": None, "error": self._aborted().to_json()})
                return
            self._send(answer)

    def _next(self) -> Optional[frames.Frame]:
        # Whoever aborts sends SIGTERM. It counts only while we wait for the client: nothing else may be cut in two, least of all
        # a commit. Half a file is no loss: the store counts only whole ones.
        self._reading = True
        try:
            if self._told_to_stop and self._holds():
                raise _Stopped
            return self._connection.receive()
        finally:
            self._reading = False

    def _discard(self, rest: bytes) -> None:
        """The client hears of an error in its upload while it still sends: it ends the stream, and we read on until then."""
        if not self._discarding:
            raise frames.BrokenFrame("bytes without a request")
        self._discarding = bool(rest)

    def stop(self) -> None:
        """Abort what is being prepared, as soon as that cuts nothing in two; go at once where nothing is."""
        if not self._holds():
            raise SystemExit(128 + signal.SIGTERM)
        self._told_to_stop = True
        if self._reading:
            raise _Stopped

    def _holds(self) -> bool:
        return self._claim is not None and self._claim.held

    def _aborted(self) -> AbortedError:
        title = f"{self._opened['kind']} aborted by {asking.stopped_by(self._paths, self._opened['deploy'])}"
        return AbortedError(title, state="nothing was changed; the running release was not touched")

    def _answer(self, request: Params) -> Params:
        number = request.get("id")
        try:
            operation = self._ops.get(str(request.get("op")))
            if operation is None:
                raise LinkError(
                    f"the host engine does not know {request.get('op')!r}", hint="client and engine differ in version"
                )
            return {"id": number, "ok": operation(request)}
        except DeployerError as error:
            return {"id": number, "error": error.to_json()}
        except OSError as error:
            return {"id": number, "error": os_error(error).to_json()}

    def _hello(self, params: Params) -> Params:
        require_known_platform()
        self._paths = HostPaths(resolve(params["path"]))
        self._looking = Looking(self._paths, self._processes, self._connection)
        unix.require_short(self._paths.runner_socket("20000101T000000Z-rollback-0000"))
        return {
            "protocol": PROTOCOL,
            "engine": deployer.__version__,
            "python": sys.version.partition(" ")[0],
            "path": str(self._paths.root),
        }

    # A deploy --------------------------------------------------------------------------------------------------------

    def _open(self, params: Params) -> Params:
        self._opened = params
        moments = params["opened"] = {"at": time.time()}
        with disk.disk_errors("prepare the deploy", str(self._paths.root)):
            self._paths.prepare_private()
            if params["target"].get("beside"):
                home.share(self._paths)
        self._claim = Claim(
            self._paths, {**params, **moments}, self._connection.gone, lambda event: self._send({"event": event})
        )
        self._claim.take()
        try:
            moments.update(locked_at=time.time(), behind=self._claim.behind)
            return self._preflight(params)
        except BaseException:
            self._let_go()
            raise

    def _preflight(self, params: Params) -> Params:
        settings, target = params["settings"], params["target"]
        facts, problems = self._looking.look(target, settings)
        # A stranger on the port is no reason to keep a service running that shall stop.
        if problems and (params["kind"] != "stop" or facts["app"] != settings["app"]):
            raise problems[0]
        if facts["adopt"] and target["adopt"].get("unit"):
            units.check(target["adopt"]["unit"], settings["drain"]["ceiling"], choose.scope_of(target))
        if target.get("pool") and params["kind"] != "stop":
            traffic.check(target, settings)
        if params["kind"] in ("push", RUN):
            self._require_env_file(settings)
        self._refuse_self(facts)
        State(self._paths.state).close()
        self._facts = facts
        return facts

    def _require_env_file(self, settings: Params) -> None:
        # Before anything is stopped: a release whose env file is missing would not start, and the old one not again.
        if settings["run"]["env_file"]:
            envfile.read(self._paths.shared / settings["run"]["env_file"])

    def _refuse_self(self, facts: Params) -> None:
        """A push from inside the service would wait for itself."""
        running = facts["instance"] or {}
        members = {process["pid"] for process in running.get("processes", [])}
        if os.getppid() in members and not self._opened.get("detach"):
            raise PreflightError(
                "this command runs inside the service that it would replace",
                cause=f"its parent, pid {os.getppid()}, belongs to the running release, which would have to wait for it",
                state="nothing was changed",
                hint="call it from outside, or with --detach",
            )

    def _have(self, params: Params) -> Params:
        self._receiving = Receiving(self._paths.root, self._paths.store, self._require_space)
        return self._receiving.have(params)

    def _upload(self) -> Receiving:
        if self._receiving is None:
            raise LinkError("files came before their manifest")
        return self._receiving

    def _require_space(self, size: int, entries: int) -> None:
        free = self._facts.get("disk") or {}
        short_bytes = free and size + MARGIN_BYTES > free["free_bytes"]
        short_inodes = free and free["free_inodes"] and entries + MARGIN_INODES > free["free_inodes"]
        if short_bytes or short_inodes:
            raise PreflightError(
                f"there is not enough space for the release at {self._paths.root}",
                cause=f"it needs {size + MARGIN_BYTES} bytes and {entries + MARGIN_INODES} inodes; "
                f"free are {free['free_bytes']} and {free['free_inodes']}",
                state="the running release was not touched",
                hint="free some space, or lower [target] keep",
            )

    def _blobs(self, params: Params) -> Params:
        inflow = Inflow(self._next)
        try:
            return self._upload().blobs(inflow)
        finally:
            self._discarding = (
                not inflow.ended
            )  # after an error, what is on its way all the same is not the next request

    def _plan(self, params: Params) -> Params:
        facts, problems = self._looking.look(params["target"], params["settings"])
        request = self._request(params, facts, self._manifest(params.get("manifest")))
        return {
            "facts": {name: facts[name] for name in ("instance", "adopt", "health", "current")},
            "release": request.release,
            "steps": [{"step": step["step"], "what": step["what"]} for step in request.steps],
            "warnings": [problem.title for problem in problems],
            "units": self._units(request, params["target"]) if request.steps and request.release else [],
        }

    def _units(self, request: Request, target: Params) -> List[str]:
        """What the push would change in the units of the supervisor, as a diff."""
        owner = choose.owner_on(self._paths, target, request.settings)
        if owner is None:
            return []
        before = (request.previous or {}).get("spec") or {}
        now = (
            Spec.from_json(before)
            if (before.get("owner") or {}).get("kind") and not before["owner"].get("foreign")
            else None
        )
        spec = spec_of(self._paths, str(request.release), request.settings, "preview")
        spec = replace(spec, owner=choose.setting(target, request.settings))
        return owner.preview(spec, spec.env, now)

    def _commit(self, params: Params) -> Params:
        if not self._holds():  # no runner may begin without the lock that it inherits
            raise LinkError("a commit came before its open", state="nothing was changed")
        manifest = self._manifest(params.get("manifest"))
        merged = {**self._opened, **params}
        request = self._request(merged, self._facts, manifest)
        if request.steps and request.kind != "stop":
            self._require_env_file(request.settings)
        if request.kind in ("push", RUN) and request.steps and merged.get("secrets"):
            spawn.write_secrets(self._paths.secrets_of(str(request.release)), merged["secrets"])
        if self._receiving is not None and self._receiving.store.unsynced:
            self._receiving.store.sync()
        self._record(request)
        server = unix.listen(self._paths.runner_socket(request.deploy))
        self._connection.before_fork()
        pid = os.fork()
        if pid == 0:
            if self._claim is not None:
                self._claim.write(kind=request.kind)
            runner_process.start(self._paths, request, manifest, server, self._let_go)
        self._connection.after_fork()
        server.close()
        self._let_go()
        return {"deploy": request.deploy, "release": request.release, "runner": pid}

    def _request(self, params: Params, facts: Params, manifest: Optional[Manifest]) -> Request:
        with opened(self._paths.state) as state:
            received = self._receiving.wire if self._receiving is not None else 0
            return Planner(self._paths, params, facts, manifest, state, received).request()

    def _manifest(self, asked: Any) -> Optional[Manifest]:
        """The manifest itself, or the digest of the one that `have` agreed on."""
        if not isinstance(asked, str):
            return checked(asked) if asked is not None else None
        agreed = self._receiving.manifest if self._receiving is not None else None
        if agreed is None or agreed.digest != asked:
            raise PreflightError(
                "the host does not know the manifest", cause=asked[:64], state="nothing was changed", hint="push again"
            )
        return agreed

    def _record(self, request: Request) -> None:
        state = State(self._paths.state)
        record(state, request, time.time())
        state.close()

    def _follow(self, params: Params) -> Params:
        following.deploy(
            self._paths, str(params["deploy"]), int(params.get("since") or 0), self._send, self._connection.gone,
            int(params.get("output") or 0),
        )  # fmt: skip
        return {}

    def _control(self, params: Params) -> Params:
        what, deploy = str(params["what"]), params.get("deploy")
        if what not in WORDS:
            raise LinkError(f"the host engine does not know {what!r}", hint="client and engine differ in version")
        return asking.control(
            self._paths, asking.Request(what, str(params["who"]), float(params.get("seconds") or 0), deploy)
        )

    def _let_go(self) -> None:
        if self._claim is not None:
            self._claim.release()


def main(argv: List[str]) -> int:
    """`agent [BEAT SILENT]`: serve the client on stdin and stdout; over a link with a pulse, in seconds."""
    os.umask(0o022)  # whatever the caller's is: nothing that we make may be writable for others
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a stray print must not break the frames
    connection = Link(stdin, stdout, float(argv[0]), float(argv[1])) if argv else Connection(stdin, stdout)
    agent = Agent(connection)
    signal.signal(signal.SIGTERM, lambda *_: agent.stop())
    try:
        agent.serve()
    except (frames.BrokenFrame, BrokenPipeError, ConnectionResetError) as error:
        sys.stderr.write(f"agent: {error}\n")
        return 1
    return 0
