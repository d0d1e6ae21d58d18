"""
One deploy, from the commit to its end: detached from the client, holding the lock, journaled.

May die at any moment. Before the promise was handed to the supervisor nothing has happened to the service; afterwards the
supervisor keeps it, and `resume` finds the deploy in state.db and goes on.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from deployer.errors import DeployerError, DownError, FailedError, GateError
from deployer.host import lock, spawn, steps, swap, unix
from deployer.host.clock import Clock
from deployer.host.deploy import Deploy, Request
from deployer.host.journal import Journal, Redactor
from deployer.host.paths import HostPaths
from deployer.host.plan import GATES
from deployer.host.process import Processes
from deployer.host.ready import NotReady
from deployer.host.releases import Releases
from deployer.host.state import State
from deployer.host.supervisors.builtin import Builtin
from deployer.manifest import Manifest
from deployer.model import EXIT_DONE, EXIT_DOWN, EXIT_FAILED, EXIT_KILLED
from deployer.wire import frames

FOLLOWERS_WITHIN = 3.0
"""Seconds that followers have to read the last events before the runner goes."""

STEPS: Dict[str, Callable[[Deploy], None]] = {
    "stage": steps.stage,
    "install": steps.install,
    "check": steps.check,
    "rehearse": steps.rehearse,
    "adopt": swap.adopt,
    "quiet": swap.ask_for_quiet,
    "wait_idle": swap.wait_idle,
    "switch": swap.switch,
    "replace": swap.replace,
    "ready": swap.ready,
    "confirm": swap.confirm,
    "prune": swap.prune,
}


@dataclass(frozen=True)
class Outcome:
    status: str
    exit_code: int
    error: Optional[DeployerError] = None


class Runner:
    """Runs the steps of one deploy, or the rest of them."""

    def __init__(self, deploy: Deploy) -> None:
        self._deploy = deploy
        self._journal = deploy.journal

    def run(self) -> Outcome:
        """Do every step that is not done yet; tell and record how it ended."""
        try:
            outcome = self._run()
        except DeployerError as error:
            outcome = self._failed(error)
        except Exception as error:  # a bug of ours must still end the deploy in the record
            traceback.print_exc()
            bug = FailedError(
                f"deployer failed: {type(error).__name__}: {error}", hint="this is a bug in deployer; see engine.log"
            )
            outcome = self._failed(bug)
        self._finish(outcome)
        return outcome

    def _run(self) -> Outcome:
        reverting = self._journal.has("revert", "begin")
        if reverting:
            return self._revert(NotReady(str(reverting.get("reason"))))
        if not self._deploy.request.steps:
            return Outcome("unchanged", EXIT_DONE)
        for step in self._deploy.request.steps:
            if self._journal.has(step["step"], "done"):
                continue
            self._journal.begin(step["step"])
            try:
                STEPS[step["step"]](self._deploy)
            except NotReady as error:
                return self._revert(error)
            self._journal.done(step["step"])
        killed = any(verdict["verdict"] == "killed" for verdict in self._deploy.verdicts)
        return Outcome("done", EXIT_KILLED if killed else EXIT_DONE)

    def _revert(self, error: NotReady) -> Outcome:
        deploy = self._deploy
        reason = swap.why_not(deploy, error)
        came_back = swap.revert(deploy, reason)
        title = f"{deploy.request.host} did not become ready on {deploy.request.release}"
        if came_back:
            back = (deploy.request.previous or {}).get("spec", {}).get("release")
            state = f"the old release {back} serves again"
            return Outcome(
                "reverted",
                EXIT_FAILED,
                FailedError(title, cause=reason, state=state, hint="fix the release and push again"),
            )
        if deploy.request.previous is None:
            state = "nothing ran before, and nothing runs now"
        else:
            state = "THE SERVICE IS DOWN: the old release would not start either; the keeper goes on trying"
        hint = "see `deployer logs`; push a release that works"
        return Outcome("down", EXIT_DOWN, DownError(title, cause=reason, state=state, hint=hint))

    def _failed(self, error: DeployerError) -> Outcome:
        deploy = self._deploy
        if _handed_over(deploy) and deploy.request.kind != "stop":
            # Past the point of no return: whatever broke, the service must end on a release that runs.
            return self._revert_after(error)
        if self._journal.has("switch", "begin"):
            swap.flip_back(deploy)
        self._unstage()
        return Outcome("failed", error.code, error)

    def _revert_after(self, error: DeployerError) -> Outcome:
        try:
            return self._revert(NotReady(error.title))
        except DeployerError as worse:
            return Outcome("down", EXIT_DOWN, DownError(error.title, cause=worse.title, state="see `deployer status`"))

    def _unstage(self) -> None:
        request = self._deploy.request
        if request.kind == "push" and request.release and self._journal.has("stage", "begin"):
            Releases(self._deploy.paths.root).remove(request.release)
            self._deploy.state.execute("DELETE FROM releases WHERE id=?", request.release)
            swap.unlink(self._deploy.paths.secrets_of(request.release))

    def _finish(self, outcome: Outcome) -> None:
        deploy, request = self._deploy, self._deploy.request
        running = deploy.state.row(
            "SELECT release FROM instances WHERE id=(SELECT value FROM meta WHERE key='desired')"
        )
        waited = max((verdict["waited_s"] for verdict in deploy.verdicts), default=None)
        result = {
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            "release": running["release"] if running else None,
            "gap_ms": deploy.gap_ms,
            "verdict": deploy.verdicts[0]["verdict"] if deploy.verdicts else None,
            "waited_s": waited,
            "lost": deploy.lost,
            "error": outcome.error.to_json() if outcome.error else None,
        }
        self._journal.event("host.finished", **result)
        deploy.state.update(
            "deploys", request.deploy, ended_at=time.time(), status=outcome.status, exit_code=outcome.exit_code,
            result=self._journal.redact(result),
        )  # fmt: skip


def start(paths: HostPaths, request: Request, manifest: Optional[Manifest], server: socket.socket) -> None:
    """Be the runner of a deploy that was just committed, in a process forked for it. Never returns."""
    code = 1
    try:
        _detach(paths)
        _serve(_build(paths, request, manifest), server)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(argv: List[str]) -> int:
    """`resume PATH DEPLOY`: finish or undo a deploy whose runner died. Quietly nothing when somebody is at it."""
    paths = HostPaths(Path(argv[0]))
    state = State(paths.state)
    row = state.row("SELECT * FROM deploys WHERE id=? AND ended_at IS NULL", argv[1])
    holding = lock.DeployLock(paths.lock)
    if row is None:
        return 0
    try:
        holding.acquire(
            {
                "deploy": row["id"],
                "kind": row["kind"],
                "who": row["who"],
                "since": row["started_at"],
                "pid": os.getpid(),
            },
            0,
        )
    except DeployerError:
        return 0
    _quiet_signals()
    deploy = _build(paths, Request.from_json(json.loads(row["request"])), None)
    deploy.journal.event("resumed", text="the runner had died; going on from the journal")
    _serve(deploy, unix.listen(paths.runner_socket), resumed=True)
    return 0


def _build(paths: HostPaths, request: Request, manifest: Optional[Manifest]) -> Deploy:
    state = State(paths.state)
    secrets = spawn.read_secrets(paths.secrets_of(request.release)) if request.release else {}
    journal = Journal(state, request.deploy, request.host, Redactor(secrets))
    if request.release and request.kind != "push":
        journal.common["release"] = request.release
    supervisor = Builtin(paths, request.deploy)
    return Deploy(request, paths, state, journal, supervisor, Clock(), Processes(), manifest)


def _serve(deploy: Deploy, server: socket.socket, resumed: bool = False) -> None:
    followers: List[threading.Thread] = []
    threading.Thread(target=_accept, args=(server, deploy.journal, followers), daemon=True).start()
    runner = Runner(deploy)
    if resumed and not _handed_over(deploy):
        outcome = runner._failed(
            GateError(
                "the deploy was interrupted before the old process was asked to stop",
                state="the running release was not touched",
            )
        )
        runner._finish(outcome)
    else:
        runner.run()
    deploy.supervisor.close()
    deploy.journal.close()
    deadline = time.monotonic() + FOLLOWERS_WITHIN
    for follower in list(followers):
        follower.join(max(0.0, deadline - time.monotonic()))


def _handed_over(deploy: Deploy) -> bool:
    """Whether the supervisor has the promise: the one thing that must be gone on with and not undone."""
    if not deploy.journal.has("replace", "begin"):
        return False
    if deploy.request.kind == "stop":
        return True
    return deploy.state.row("SELECT 1 FROM instances WHERE id=?", deploy.request.instance) is not None


def _accept(server: socket.socket, journal: Journal, followers: List[threading.Thread]) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        thread = threading.Thread(target=_follower, args=(connection, journal), daemon=True)
        followers.append(thread)
        thread.start()


def _follower(connection: socket.socket, journal: Journal) -> None:
    with connection, connection.makefile("rb") as stream:
        try:
            request = frames.read(stream)
        except (OSError, frames.BrokenFrame):
            return
        if isinstance(request, dict) and request.get("op") == "follow":
            journal.follow(int(request.get("since") or 0), lambda event: _send(connection, event))


def _send(connection: socket.socket, event: Dict[str, Any]) -> bool:
    try:
        connection.sendall(frames.pack(event))
    except OSError:
        return False
    return True


def _detach(paths: HostPaths) -> None:
    os.setsid()
    _quiet_signals()
    log = os.open(paths.engine_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - lives as long as the process


def _quiet_signals() -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


assert set(GATES) <= set(STEPS)
