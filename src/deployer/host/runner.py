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
from typing import Any, Callable, Dict, List, Mapping, Optional

from deployer.errors import DeployerError, DownError, FailedError, GateError, LockedError
from deployer.host import gates, lock, log_tails, pruning, spawn, steps, swap, unix
from deployer.host.clock import Clock
from deployer.host.control import Asked, Control
from deployer.host.deploy import Deploy, Request
from deployer.host.heed import Aborted, aborted_by, heed, too_late
from deployer.host.journal import Journal
from deployer.host.keeper import open_log
from deployer.host.paths import HostPaths
from deployer.host.plan import GATES
from deployer.host.process import Processes
from deployer.host.ready import NotReady
from deployer.host.releases import Releases
from deployer.host.state import State
from deployer.host.supervisors.builtin import Builtin
from deployer.host.tree import Tree
from deployer.manifest import Manifest
from deployer.model import EXIT_DONE, EXIT_DOWN, EXIT_FAILED, EXIT_KILLED, Identity
from deployer.wire import frames
from deployer.wire.redaction import Redactor

RESUMES = 20
"""How many runners may die of one deploy."""
FOLLOWERS_WITHIN = 3.0
"""Seconds that followers have to read the last events before the runner goes."""

StepFunction = Callable[[Deploy], None]
STEPS: Dict[str, StepFunction] = {
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
    "prune": pruning.prune,
}


@dataclass(frozen=True)
class Outcome:
    status: str
    exit_code: int
    error: Optional[DeployerError] = None


class Runner:
    """Runs the steps of one deploy, or the rest of them where its runner died."""

    def __init__(self, deploy: Deploy, resumed: bool = False, how: Mapping[str, StepFunction] = STEPS) -> None:
        self._deploy = deploy
        self._how = how
        self._journal = deploy.journal
        self._resumed = resumed
        self._told = False  # how it ended, to those who listen

    def run(self) -> Outcome:
        """
        Do every step that is not done yet; tell and record how it ended.

        Raises DeployerError when that cannot be brought to an end now: the promise stands, another runner goes on.
        """
        try:
            outcome = self._outcome()
            self._finish(outcome)
        except DeployerError as error:
            if not self._told:
                self._tell_unwritten(error)
            raise
        return outcome

    def _outcome(self) -> Outcome:
        try:
            return self._begin()
        except Aborted:
            return self._aborted()
        except DeployerError as error:
            return self._failed(error)
        except Exception as error:  # a bug of ours must still end the deploy in the record
            _say_why()
            bug = FailedError(
                f"deployer failed: {type(error).__name__}: {error}", hint="this is a bug in deployer; see engine.log"
            )
            return self._failed(bug)

    def _begin(self) -> Outcome:
        # A keeper that does not come up ends the deploy here. What a dead runner asked of one is done once this is answered.
        self._deploy.supervisor.status()
        if aborted_by(self._deploy) and not too_late(self._deploy):
            return self._aborted()
        # Once it was asked to be quiet the old process refuses new work for good: the only way out is forward.
        forward = swap.handed_over(self._deploy) or self._journal.has("quiet", "begin")
        if self._resumed and self._deploy.request.steps and not forward:
            return self._undone()
        return self._run()

    def _tell_unwritten(self, error: DeployerError) -> None:
        # The disk refuses the record: nothing can be done until it is mended, and who waits must know how things stand.
        if self._runs():
            self._journal.progress("warning", text=f"{error}: this deploy is brought to its end once that is mended")
            return
        down = DownError(
            "the deploy cannot go on: the host refuses to write it down",
            cause=error.cause or str(error), state="THE SERVICE IS DOWN: the old process has gone; the keeper goes on trying",
            hint="mend the disk of this host (df -h; df -i; dmesg), then call `deployer status`: the deploy goes on by itself",
        )  # fmt: skip
        self._journal.progress("host.finished", **self._result(Outcome("down", EXIT_DOWN, down)))

    def _runs(self) -> bool:
        try:
            return any(one["processes"] for one in self._deploy.supervisor.status()["instances"])
        except DeployerError:
            return True  # as far as anybody knows

    def _undone(self) -> Outcome:
        self._end_gates()
        title = "the deploy was interrupted before the old process was asked to stop"
        return self._failed(GateError(title, state=gates.OLD_SERVES))

    def _end_gates(self) -> None:
        # What an install, a check or a rehearsal had started works on in a release that is about to be removed.
        processes = self._deploy.processes
        for step in GATES:
            begun = self._journal.data(step, "instance")
            if begun:
                tree = Tree(processes, Identity(0, 0, processes.boot), begun["instance"])
                gates.end(tree)
                tree.close()

    def _run(self) -> Outcome:
        reverting = self._journal.data("revert", "begin")
        if reverting:
            return self._reverted(str(reverting["reason"]))
        if not self._deploy.request.steps:
            return Outcome("unchanged", EXIT_DONE)
        for step in self._deploy.request.steps:
            if self._journal.has(step["step"], "done"):
                continue
            heed(self._deploy)
            self._journal.begin(step["step"])
            try:
                self._how[step["step"]](self._deploy)
            except NotReady as error:
                return self._revert(error)
            self._journal.done(step["step"])
        return self._done()

    def _done(self) -> Outcome:
        killed = any(verdict["verdict"] == "killed" for verdict in self._deploy.verdicts)
        return Outcome("done", EXIT_KILLED if killed else EXIT_DONE)

    def _aborted(self) -> Outcome:
        """Somebody wants the old release back: as soon as nothing is lost by it."""
        deploy = self._deploy
        title = f"{deploy.request.kind} aborted by {aborted_by(deploy)}"
        if swap.handed_over(deploy) or self._journal.has("quiet", "begin"):
            return self._reverted(title)
        if self._resumed:
            self._end_gates()
        return self._failed(FailedError(title, state=gates.OLD_SERVES, hint="push again when you like"))

    def _revert(self, error: NotReady) -> Outcome:
        return self._reverted(swap.why_not(self._deploy, error))

    def _reverted(self, reason: str) -> Outcome:
        deploy = self._deploy
        done = self._journal.data("revert", "done")
        came_back = bool(done["ok"]) if done else swap.revert(deploy, reason)
        aborted = aborted_by(deploy) is not None
        title = reason if aborted else f"{deploy.request.host} did not become ready on {deploy.request.release}"
        cause = None if aborted else reason
        if came_back:
            back = (deploy.request.previous or {}).get("spec", {}).get("release")
            state = f"the old release {back} serves again"
            hint = "fix the release and push again; [check] or run.rehearse can find it before the old one is stopped"
            hint = "push again when you like" if aborted else hint
            return Outcome("reverted", EXIT_FAILED, FailedError(title, cause=cause, state=state, hint=hint))
        if aborted and deploy.request.previous is None:
            state = "nothing ran before, and nothing runs now"
            return Outcome("failed", EXIT_FAILED, FailedError(title, state=state, hint="push again when you like"))
        if deploy.request.previous is None:
            state = "nothing ran before, and nothing runs now"
        else:
            state = "THE SERVICE IS DOWN: the old release would not start either; the keeper goes on trying"
        hint = "see `deployer logs`; push a release that works"
        return Outcome("down", EXIT_DOWN, DownError(title, cause=cause, state=state, hint=hint))

    def _failed(self, error: DeployerError) -> Outcome:
        deploy = self._deploy
        if self._journal.has("confirm", "done"):  # it serves: nothing that fails after that is worth a second swap
            self._journal.event("warning", text=error.title)
            return self._done()
        if swap.handed_over(deploy):
            # Past the point of no return: whatever broke, the service must end on a release that runs, a stop be a stop.
            # Proven already: to tear it down because a line could not be written would be the worse end. Another runner confirms.
            if deploy.request.kind == "stop" or self._journal.has("ready", "done"):
                raise error
            return self._revert(NotReady(error.title))
        if self._journal.has("quiet", "begin") and deploy.request.previous:
            # It takes no new work any more: only a fresh start of the old release serves again.
            return self._revert(NotReady(error.title))
        try:
            if self._journal.has("switch", "begin"):
                swap.flip_back(deploy)
            self._unstage()
        except (DeployerError, OSError):
            _say_why()  # the disk again: the next push clears it away, and why this one failed is to be told
        return Outcome("failed", error.code, error)

    def _unstage(self) -> None:
        request = self._deploy.request
        if request.kind == "push" and request.release and request.steps:
            if self._journal.has("stage", "begin"):
                self._deploy.releases.remove(request.release)
                self._deploy.state.execute("DELETE FROM releases WHERE id=?", request.release)
            self._deploy.paths.secrets_of(request.release).unlink(missing_ok=True)

    def _result(self, outcome: Outcome) -> Dict[str, Any]:
        deploy = self._deploy
        log_tails.keep(deploy)
        running = deploy.state.row(
            "SELECT release FROM instances WHERE id=(SELECT value FROM meta WHERE key='desired')"
        )
        waited = max((verdict["waited_s"] for verdict in deploy.verdicts), default=None)
        return {
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            "release": running["release"] if running else None,
            "gap_ms": deploy.gap_ms,
            "verdict": deploy.verdicts[0]["verdict"] if deploy.verdicts else None,
            "waited_s": waited,
            "lost": deploy.lost,
            "error": outcome.error.to_json() if outcome.error else None,
        }

    def _finish(self, outcome: Outcome) -> None:
        result = self._result(outcome)
        try:
            self._journal.end("host.finished", **result)
        except DeployerError:
            if not self._journal.has("quiet", "begin"):  # then another runner would go forward, and may end otherwise
                self._journal.progress("host.finished", **result)
                self._told = True
            raise


def start(paths: HostPaths, request: Request, manifest: Optional[Manifest], server: socket.socket) -> None:
    """Be the runner of a deploy that was just committed, in a process forked for it. Never returns."""
    code = 1
    try:
        _detach(paths)
        log_tails.sign_in(request.deploy, "begins")
        _serve(_build(paths, request, manifest), server)
        code = 0
    except BaseException:
        _say_why()
    finally:
        os._exit(code)


def _say_why() -> None:
    """The exception being handled, into the engine's log; nothing when the disk refuses even that."""
    try:
        traceback.print_exc()
        sys.stderr.flush()
    except OSError:
        pass


def main(argv: List[str]) -> int:
    """`resume PATH DEPLOY`: finish or undo a deploy whose runner died. Quietly nothing when somebody is at it."""
    paths = HostPaths(Path(argv[0]))
    state = State(paths.state)
    row = _unfinished(state, argv[1])
    if row is None or not _take_lock(paths, row):
        return 0
    _quiet_signals()
    row = _unfinished(state, argv[1])  # again: its runner may have ended it before it let go of the lock
    if row is not None:
        log_tails.sign_in(row["id"], "resumes")
        deploy = _build(paths, Request.from_json(json.loads(row["request"])), None)
        if not take_up(deploy):
            return 1
        _serve(deploy, unix.listen(paths.runner_socket), resumed=True)
    return 0


def take_up(deploy: Deploy) -> bool:
    """Whether to go on with *deploy*, whose runner died; with what it knew. Too many have died of one that is given up."""
    _remember(deploy)
    if len(deploy.journal.told("resumed")) >= RESUMES:
        _give_up(deploy)
        return False
    deploy.journal.event("resumed", text="the runner had died; going on from the journal")
    return True


def _give_up(deploy: Deploy) -> None:
    # It must not stand in the way of every later deploy for ever.
    title = f"the deploy could not be finished: its runner died {RESUMES} times"
    error = FailedError(title, state="see `deployer status`", hint="see engine.log on the host, then push again")
    Runner(deploy)._finish(Outcome("failed", EXIT_FAILED, error))


def _unfinished(state: State, deploy: str) -> Optional[Dict[str, Any]]:
    return state.row("SELECT * FROM deploys WHERE id=? AND ended_at IS NULL", deploy)


def _take_lock(paths: HostPaths, row: Dict[str, Any]) -> bool:
    who = {"deploy": row["id"], "kind": row["kind"], "who": row["who"], "since": row["started_at"], "pid": os.getpid()}
    try:
        lock.DeployLock(paths.lock).acquire(who, 0)
    except LockedError:
        return False
    return True


def _build(paths: HostPaths, request: Request, manifest: Optional[Manifest]) -> Deploy:
    state = State(paths.state)
    state.reserve()
    journal = Journal(state, request.deploy, request.host, Redactor(_secrets(paths, request)))
    if request.release and (request.kind != "push" or journal.has("stage", "done")):
        journal.common["release"] = request.release
    control = Control()
    supervisor = Builtin(paths, request.deploy, control.fileno())
    releases = Releases(paths.root)
    return Deploy(request, paths, state, journal, supervisor, Clock(), Processes(), releases, control, manifest)


def _secrets(paths: HostPaths, request: Request) -> Dict[str, str]:
    if not request.release:
        return {}
    try:
        return spawn.read_secrets(paths.secrets_of(request.release))
    except DeployerError:
        return {}  # a damaged file: the start will say so, and this deploy must be able to end


def _remember(deploy: Deploy) -> None:
    """What the runner that died knew and the result needs: how the drains ended that it has told."""
    for event in deploy.journal.told("drain.finished"):
        deploy.verdicts.append({name: event[name] for name in ("verdict", "waited_s", "lost", "instance")})
        deploy.lost += event["lost"]


def _serve(deploy: Deploy, server: socket.socket, resumed: bool = False) -> None:
    followers: List[threading.Thread] = []
    threading.Thread(target=_accept, args=(server, deploy, followers), daemon=True).start()
    try:
        Runner(deploy, resumed).run()
        deploy.supervisor.close()
    finally:
        deploy.control.close()
        deploy.journal.close()
        deadline = time.monotonic() + FOLLOWERS_WITHIN
        for follower in list(followers):
            follower.join(max(0.0, deadline - time.monotonic()))


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
            asked = Asked(str(request["what"]), str(request["who"]), float(request.get("seconds") or 0))
            _send(connection, deploy.control.ask(asked).answer())


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


assert set(GATES) <= set(STEPS)
