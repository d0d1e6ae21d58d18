"""
The process around a runner: detached from the client, holding the lock, listening to followers and to people.

Forked by the agent at the commit (`start`), or started anew for a deploy whose runner died (`main`).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from deployer.durations import LONGEST
from deployer.errors import DeployerError, FailedError, LockedError
from deployer.host import log_tails, spawn, unix
from deployer.host.batch.course import Course
from deployer.host.clock import Clock
from deployer.host.control import WORDS, Asked, Control
from deployer.host.deploy import DRAIN, Deploy, Request
from deployer.host.detached import open_log
from deployer.host.journal import Journal
from deployer.host.lock import DeployLock
from deployer.host.paths import HostPaths
from deployer.host.plan import RUN
from deployer.host.process import here
from deployer.host.releases import Releases
from deployer.host.runner import Runner, take_up
from deployer.host.say import say_why
from deployer.host.state import State
from deployer.host.supervisors import choose, keeper_unit
from deployer.host.supervisors.builtin import Builtin
from deployer.manifest import Manifest
from deployer.wire import frames
from deployer.wire.redaction import Redactor

FOLLOWERS_WITHIN = 3.0
"""Seconds that followers have to read the last events before the runner goes."""


def start(
    paths: HostPaths, request: Request, manifest: Optional[Manifest], server: socket.socket, let_go: Callable[[], None]
) -> None:
    """Be the runner of a deploy that was just committed, in a process forked for it. *let_go* frees its lock. Never returns."""
    code = 1
    try:
        _detach(paths)
        log_tails.sign_in(request.deploy, "begins")
        _serve(_build(paths, request, manifest, let_go), server)
        code = 0
    except BaseException:
        say_why()
    finally:
        os._exit(code)


def main(argv: List[str]) -> int:
    """`resume PATH DEPLOY`: finish or undo a deploy whose runner died. Quietly nothing when somebody is at it."""
    paths = HostPaths(Path(argv[0]))
    state = State(paths.state)
    found = _found(paths, state, argv[1])
    if found is None:
        return 0
    row, held = found
    log_tails.sign_in(row["id"], "resumes")
    alone = row["step"] == DRAIN  # then what we hold is not the deploy lock
    let_go = (lambda: None) if alone else held.release
    deploy = _build(paths, Request.from_json(json.loads(row["request"])), None, let_go, alone)
    if not take_up(deploy):
        return 1
    _serve(deploy, unix.listen(paths.runner_socket(row["id"])), resumed=True)
    return 0


def _found(paths: HostPaths, state: State, deploy: str) -> Optional[Tuple[Dict[str, Any], DeployLock]]:
    """The row of *deploy* with the lock that its step needs, held; None when it has ended or somebody is at it."""
    row = _unfinished(state, deploy)
    while row is not None:
        held = _take_lock(paths, row)
        if held is None:
            return None
        _quiet_signals()
        # Again: its runner may have ended it before it let go of the lock, or let go because only the drains were left.
        again = _unfinished(state, deploy)
        if again is not None and (again["step"] == DRAIN) == (row["step"] == DRAIN):
            return again, held
        held.release()
        row = again
    return None


def _unfinished(state: State, deploy: str) -> Optional[Dict[str, Any]]:
    return state.row("SELECT * FROM deploys WHERE id=? AND ended_at IS NULL", deploy)


def _take_lock(paths: HostPaths, row: Dict[str, Any]) -> Optional[DeployLock]:
    """The lock that the runner of this deploy holds at the step where it is; None when somebody has it."""
    who = {"deploy": row["id"], "kind": row["kind"], "who": row["who"], "since": row["started_at"], "pid": os.getpid()}
    held = DeployLock(paths.drain_lock(row["id"]) if row["step"] == DRAIN else paths.lock)
    try:
        held.acquire(who, 0)
    except LockedError:
        return None
    return held


def _build(
    paths: HostPaths, request: Request, manifest: Optional[Manifest], let_go: Callable[[], None], alone: bool = False
) -> Deploy:
    state = State(paths.state)
    state.reserve()
    journal = Journal(state, request.deploy, request.host, Redactor(_secrets(paths, request)))
    if request.release and (request.kind not in ("push", RUN) or journal.has("stage", "done")):
        journal.common["release"] = request.release
    control = Control()
    owner = choose.setting(request.target, request.settings)
    if owner is not None and owner["kind"] == "systemd" and not alone:
        keeper_unit.install(paths, request.settings["app"], str(owner["scope"]))
    if owner is not None and owner["kind"] == "launchd" and not alone:
        from deployer.host.supervisors import launchd

        launchd.keep_at_boot(paths, request.settings["app"])
    supervisor = Builtin(paths, request.deploy, control.fileno(), upgrades=not alone)
    releases = Releases(paths.root)
    deploy = Deploy(request, paths, state, journal, supervisor, Clock(), here(), releases, control, manifest)
    deploy.let_go = let_go
    deploy.alone = alone
    return deploy


def _secrets(paths: HostPaths, request: Request) -> Dict[str, str]:
    """What must not be told: the values of the release that comes, and of the one that goes."""
    found: Dict[str, str] = {}
    for release in {request.release, (request.previous or {}).get("spec", {}).get("release")} - {None}:
        try:
            values = spawn.read_secrets(paths.secrets_of(str(release)))
        except DeployerError:
            continue  # a damaged file: the start will say so, and this deploy must be able to end
        found.update({f"{release}/{name}": value for name, value in values.items()})
    return found


def _serve(deploy: Deploy, server: socket.socket, resumed: bool = False) -> None:
    followers: List[threading.Thread] = []
    threading.Thread(target=_accept, args=(server, deploy, followers), daemon=True).start()
    try:
        if deploy.request.kind == RUN:
            Course(deploy, resumed).run()
        else:
            Runner(deploy, resumed).run()
        deploy.supervisor.close()
    finally:
        deploy.control.close()
        deploy.journal.close()
        deadline = time.monotonic() + FOLLOWERS_WITHIN
        for follower in list(followers):
            follower.join(max(0.0, deadline - time.monotonic()))
        for path in (deploy.paths.runner_socket(deploy.request.deploy), deploy.paths.drain_lock(deploy.request.deploy)):
            path.unlink(missing_ok=True)


def _accept(server: socket.socket, deploy: Deploy, followers: List[threading.Thread]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        thread = threading.Thread(target=_follower, args=(connection, deploy), daemon=True)
        followers.append(thread)
        thread.start()


def _follower(connection: socket.socket, deploy: Deploy) -> None:
    with connection, connection.makefile("rb") as stream:
        try:
            request = frames.read(stream)
        except (OSError, frames.BrokenFrame):
            return
        if not isinstance(request, dict):
            return
        if request.get("op") == "follow":
            deploy.journal.follow(int(request.get("since") or 0), lambda event: _send(connection, event))
        elif request.get("op") == "control":
            _send(connection, _control(request, deploy))


def _control(request: Dict[str, Any], deploy: Deploy) -> Dict[str, Any]:
    asked = Asked(str(request["what"]), str(request["who"]), float(request.get("seconds") or 0))
    if request.get("deploy") not in (None, deploy.request.deploy):
        asked.too_late()  # another one was meant, which has ended meanwhile
    elif not 0 <= asked.seconds <= LONGEST:
        asked.refused(FailedError(f"nobody waits {asked.seconds} s longer", hint="at most a year"))
    elif asked.what not in WORDS:  # nothing that we do not know may end in force
        asked.refused(
            FailedError(f"this deploy does not know {asked.what!r}", hint="client and engine differ in version")
        )
    else:
        deploy.control.ask(asked)
    return asked.answer()


def _send(connection: socket.socket, event: Dict[str, Any]) -> bool:
    try:
        connection.sendall(frames.pack(event))
    except OSError:
        return False
    return True


def _detach(paths: HostPaths) -> None:
    os.setsid()
    _quiet_signals()
    log = open_log(paths)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - lives as long as the process


def _quiet_signals() -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
