"""
One deploy, from the commit to its end: step by step, journaled.

May die at any moment. Before the promise was handed to the supervisor nothing has happened to the service; afterwards the
supervisor keeps it, and `resume` finds the deploy in state.db and goes on.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

from deployer.errors import DeployerError, FailedError, GateError
from deployer.host import endings, gates, log_tails, overlap, pruning, revert, steps, swap, traffic
from deployer.host.batch import leftovers
from deployer.host.beside import changes, seen, way_back
from deployer.host.beside import course as beside
from deployer.host.deploy import DRAIN, Deploy
from deployer.host.endings import Outcome
from deployer.host.handover import handed_over
from deployer.host.heed import Aborted, aborted_by, heed, too_late
from deployer.host.plan import GATES
from deployer.host.proving import why_not
from deployer.host.ready import NotReady
from deployer.host.say import say_why
from deployer.model import EXIT_DONE, EXIT_FAILED

RESUMES = 20
"""How many runners may die of one deploy."""
StepFunction = Callable[[Deploy], None]
STEPS: Dict[str, StepFunction] = {
    "stage": steps.stage,
    "install": steps.install,
    "check": steps.check,
    "rehearse": steps.rehearse,
    "adopt": swap.adopt,
    "quiet": swap.ask_for_quiet,
    "wait_idle": swap.wait_idle,
    "room": overlap.await_drained,
    "leave": traffic.leave,
    "launch": overlap.launch,
    "pool": traffic.switch_over,
    "switch": swap.switch,
    "replace": swap.replace,
    "ready": lambda deploy: (overlap.ready if deploy.request.overlaps else swap.ready)(deploy),
    "join": traffic.join,
    "confirm": swap.confirm,
    "retire": overlap.retire,
    "prune": pruning.prune,
    DRAIN: overlap.drain,
    "leftovers": leftovers.end,
    changes.UP: beside.bring_up,
    changes.DOWN: beside.end,
}


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
            say_why()
            return self._failed(endings.bug(error))

    def _begin(self) -> Outcome:
        # A keeper that does not come up ends the deploy here. What a dead runner asked of one is done once this is answered.
        self._deploy.supervisor.status()
        if aborted_by(self._deploy) and not too_late(self._deploy):
            return self._aborted()
        # Once it was asked to be quiet the old process refuses new work for good: the only way out is forward.
        begun = (self._journal.has(step, "begin") for step in ("quiet", "confirm", changes.DOWN))
        forward = handed_over(self._deploy) or any(begun)
        if self._resumed and self._deploy.request.steps and not forward:
            return self._undone()
        return self._run()

    def _tell_unwritten(self, error: DeployerError) -> None:
        # The disk refuses the record: nothing can be done until it is mended, and who waits must know how things stand.
        if self._runs():
            self._journal.progress("warning", text=f"{error}: this deploy is brought to its end once that is mended")
            return
        self._journal.progress("host.finished", **self._result(endings.unwritten(error)))

    def _runs(self) -> bool:
        try:
            instances = self._deploy.supervisor.status()["instances"]
            return any(one["processes"] and not one["drain"] for one in instances)
        except DeployerError:
            return True  # as far as anybody knows

    def _undone(self) -> Outcome:
        self._end_gates()
        title = "the deploy was interrupted before the old process was asked to stop"
        return self._failed(GateError(title, state=gates.OLD_SERVES))

    def _end_gates(self) -> None:
        gates.end_all_left_behind(self._journal, self._deploy.processes, GATES)

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
            if step["step"] == DRAIN:
                overlap.sign_in(self._deploy)
            self._journal.begin(step["step"])
            try:
                self._do(step["step"])
            except NotReady as error:
                return self._revert(error)
            self._journal.done(step["step"])
        return endings.done(self._deploy)

    def _do(self, step: str) -> None:
        try:
            self._how[step](self._deploy)
        except (DeployerError, OSError) as error:
            if step != "prune" or not overlap.retired(self._deploy):
                raise
            # It serves, and the old one drains: what is not tidied up now is by the next push.
            say_why()
            self._journal.event("warning", text=f"old releases were not removed: {error}")

    def _aborted(self) -> Outcome:
        """Somebody wants the old release back: as soon as nothing is lost by it."""
        deploy = self._deploy
        title = endings.aborted(deploy)
        if handed_over(deploy) or self._journal.has("quiet", "begin"):
            return self._reverted(title)
        if self._resumed:
            self._end_gates()
        return self._failed(FailedError(title, state=gates.OLD_SERVES, hint=endings.AGAIN))

    def _revert(self, error: NotReady) -> Outcome:
        return self._reverted(why_not(self._deploy, error))

    def _reverted(self, reason: str) -> Outcome:
        deploy = self._deploy
        done = self._journal.data("revert", "done")
        left = way_back.brought_back(deploy)  # first: what comes back is used to them as they were
        go_back = overlap.take_back if deploy.request.overlaps else revert.revert
        came_back = bool(done["ok"]) if done else go_back(deploy, reason)
        return _and_left(endings.gone_back(deploy, reason, came_back), left)

    def _failed(self, error: DeployerError) -> Outcome:
        deploy = self._deploy
        if self._journal.has("confirm", "done"):  # it serves: nothing that fails after that is worth a second swap
            self._journal.event("warning", text=error.title)
            return endings.done(self._deploy)
        if overlap.retired(deploy):
            raise error  # it serves, and the old one drains: another runner tells how that ends
        if handed_over(deploy) and deploy.request.overlaps:
            return self._revert(NotReady(endings.in_words(error)))  # nobody has been asked to stop yet
        if handed_over(deploy):
            # Past the point of no return: whatever broke, the service must end on a release that runs, a stop be a stop.
            # Proven already: to tear it down because a line could not be written would be the worse end. Another runner confirms.
            if deploy.request.kind == "stop" or self._journal.has("ready", "done"):
                raise error
            return self._revert(NotReady(error.title))
        if self._journal.has("quiet", "begin") and deploy.request.previous:
            # It takes no new work any more: only a fresh start of the old release serves again.
            return self._revert(NotReady(error.title))
        left = way_back.brought_back(deploy)
        traffic.back(deploy)
        try:
            if self._journal.has("switch", "begin"):
                revert.flip_back(deploy)
            self._unstage()
        except (DeployerError, OSError):
            say_why()  # the disk again: the next push clears it away, and why this one failed is to be told
        return _and_left(Outcome("failed", error.code, error), left)

    def _unstage(self) -> None:
        request = self._deploy.request
        staged = any(step["step"] == "stage" for step in request.steps)
        if (
            request.kind == "push"
            and request.release
            and staged
            and request.release not in seen.in_use(self._deploy.paths)
        ):
            if self._journal.has("stage", "begin"):
                self._deploy.releases.remove(request.release)
                self._deploy.state.execute("DELETE FROM releases WHERE id=?", request.release)
            self._deploy.paths.secrets_of(request.release).unlink(missing_ok=True)

    def _result(self, outcome: Outcome) -> Dict[str, Any]:
        deploy = self._deploy
        log_tails.keep(deploy)
        # What ran before runs on as the new release where that has changed no more than services.
        brought = overlap.retired(deploy) or (deploy.request.kind != "stop" and self._journal.has("confirm", "done"))
        running = deploy.state.row(
            "SELECT release FROM instances WHERE id=(SELECT value FROM meta WHERE key='desired')"
        )
        waited = max((verdict["waited_s"] for verdict in deploy.verdicts), default=None)
        return {
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            # While its drain was waited for, another deploy may have brought another release.
            "release": deploy.request.release if brought else running["release"] if running else None,
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


def _and_left(outcome: Outcome, left: Optional[str]) -> Outcome:
    """*outcome*, with what a person must know of services that did not come back."""
    if left and outcome.error is not None:
        outcome.error.state = f"{outcome.error.state}; {left}" if outcome.error.state else left
    return outcome


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
    if deploy.request.overlaps and not overlap.retired(deploy):
        overlap.dismiss(deploy)  # what is on trial must not stay beside the old one
    title = f"the deploy could not be finished: its runner died {RESUMES} times"
    error = FailedError(title, state="see `deployer status`", hint="see engine.log on the host, then push again")
    Runner(deploy)._finish(Outcome("failed", EXIT_FAILED, error))


def _remember(deploy: Deploy) -> None:
    """What the runner that died knew and the result needs: how the drains ended that it has told."""
    known = deploy.journal.data("retire", "gap")
    deploy.gap_ms = known["gap_ms"] if known else deploy.gap_ms
    for event in deploy.journal.told("drain.finished"):
        deploy.verdicts.append({name: event[name] for name in ("verdict", "waited_s", "lost", "instance")})
        deploy.lost += event["lost"]


assert set(GATES) <= set(STEPS)
