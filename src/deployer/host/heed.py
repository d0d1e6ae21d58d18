"""Do what people ask of a deploy under way: abort it, lengthen its drain, end its drain now. Recorded with who and when."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from deployer.durations import show
from deployer.errors import DeployerError, FailedError
from deployer.host import hooks
from deployer.host.control import ABORT, EXTEND, NOW, Asked
from deployer.host.deploy import Deploy
from deployer.host.hooks import LastCall
from deployer.host.say import say
from deployer.host.supervisors.base import Watched


class Aborted(Exception):
    """Somebody wants the old release back; the journal knows who."""


class Attentive:
    """What a deploy waits on (its supervisor, a rehearsal), such that every wait heeds what people ask meanwhile."""

    def __init__(self, deploy: Deploy, watched: Watched, last_call: Optional[LastCall] = None) -> None:
        self._deploy = deploy
        self._watched = watched
        self._last_call = last_call

    def status(self) -> Dict[str, Any]:
        return self._watched.status()

    def wait(self, deadline: float) -> None:
        """As `Watched.wait`. Raises Aborted."""
        self._watched.wait(deadline)
        heed(self._deploy, self._last_call)


class Calm:
    """As `Attentive`, for what is done whatever people ask: an abort is on record and answered, and ends no wait."""

    def __init__(self, deploy: Deploy) -> None:
        self._watched = Attentive(deploy, deploy.supervisor)

    def status(self) -> Dict[str, Any]:
        return self._watched.status()

    def wait(self, deadline: float) -> None:
        try:
            self._watched.wait(deadline)
        except Aborted:
            pass  # the way back, or the clean-up, is what it asks for


class Attention:
    """`gates.Interruption` of a deploy: a gate ends when somebody aborts."""

    def __init__(self, deploy: Deploy) -> None:
        self._deploy = deploy

    def fileno(self) -> int:
        return self._deploy.control.fileno()

    def heed(self) -> None:
        """Raises Aborted."""
        heed(self._deploy)


def heed(deploy: Deploy, last_call: Optional[LastCall] = None) -> None:
    """Take up everything that was asked for until now. Raises Aborted when that is among it, and still possible."""
    while True:
        asked = deploy.control.take()
        if asked is None:
            return
        try:
            if asked.what == ABORT:
                _abort(deploy, asked)
            else:
                asked.done(**_move_drains(deploy, asked, last_call))
        except DeployerError as error:
            asked.refused(error)


def aborted_by(deploy: Deploy) -> Optional[str]:
    """Who has aborted *deploy*; None when nobody has."""
    asked = deploy.journal.data("abort", "asked")
    return str(asked["who"]) if asked else None


def too_late(deploy: Deploy) -> bool:
    """Whether the new release has proven itself: from here on only a rollback brings the old one back."""
    return deploy.journal.has("confirm", "begin") or deploy.journal.has("retire", "begin")


def _abort(deploy: Deploy, asked: Asked) -> None:
    if too_late(deploy):
        raise FailedError(
            f"it is too late to abort {deploy.request.deploy}",
            cause=f"{deploy.request.release} has proven itself and serves",
            state="nothing was changed by this call",
            hint="go back with `deployer rollback`",
        )
    if aborted_by(deploy) or deploy.journal.has("revert", "begin"):
        asked.done(deploy=deploy.request.deploy, already=True)
        return
    # On record before it is answered: whoever resumes this deploy goes on aborting it.
    deploy.journal.note("abort", "asked", who=asked.who)
    try:
        deploy.journal.event("abort.asked", who=asked.who)
    except DeployerError as error:
        say(f"abort by {asked.who}: not told: {error}")  # it is on record, so it counts
    asked.done(deploy=deploy.request.deploy, already=False)
    raise Aborted(asked.who)


def _move_drains(deploy: Deploy, asked: Asked, last_call: Optional[LastCall]) -> Dict[str, Any]:
    # Older generations of earlier deploys too: who asks sees them drain, and names none.
    draining = [one for one in deploy.supervisor.status()["instances"] if one["drain"]]
    if not draining:
        raise _nothing_drains(deploy, asked)
    return {"drains": [_move(deploy, asked, one, last_call) for one in draining]}


def _move(deploy: Deploy, asked: Asked, one: Dict[str, Any], last_call: Optional[LastCall]) -> Dict[str, Any]:
    now, left = deploy.clock.now(), float(one["drain"]["left_s"])
    # The app's last chance to save its work comes before force, also before a hurried one.
    warning = _warning(deploy, one, last_call) if asked.what != EXTEND else 0.0
    deadline = now + (left + asked.seconds if asked.what == EXTEND else min(left, warning))
    if not deploy.supervisor.move_deadline(one["id"], deadline, asked.who):
        raise FailedError(
            f"the drain of pid {one['pid']} can no longer be moved",
            cause="it has just ended, or its processes have been killed already",
            hint="see `deployer status`",
        )
    moved = {"pid": one["pid"], "ceiling_s": round(one["drain"]["waited_s"] + deadline - now, 1), "who": asked.who}
    try:
        deploy.journal.note("drain", "moved", instance=one["id"], now=asked.what == NOW, who=asked.who)
        if asked.what == EXTEND:
            deploy.journal.event("drain.extended", by_s=asked.seconds, **moved)
        else:
            deploy.journal.event("drain.cut_short", **moved)
    except DeployerError as error:
        say(f"{asked.what} by {asked.who}: not told: {error}")  # the keeper has it on record, so it counts
    return moved


def _warning(deploy: Deploy, one: Dict[str, Any], last_call: Optional[LastCall]) -> float:
    """Seconds for the last call of the deploy whose drain it is: an older one has a runner of its own, which makes it."""
    owner = str(one["drain"]["deploy"])
    if owner != deploy.request.deploy:
        return hooks.warning_of(deploy.state, owner)
    return last_call.warning() if last_call is not None else 0.0


def _nothing_drains(deploy: Deploy, asked: Asked) -> FailedError:
    rows: List[Dict[str, Any]] = deploy.state.rows("SELECT step FROM deploys WHERE id=?", deploy.request.deploy)
    step = rows[0]["step"] if rows else "?"
    what = f"lengthened by {show(asked.seconds)}" if asked.what == EXTEND else "ended"
    return FailedError(
        f"there is no drain that could be {what}",
        cause=f"{deploy.request.deploy} is at {step}",
        state="nothing was changed by this call",
        hint="ask again once it drains; `deployer attach` shows when",
    )
