"""How a deploy may end, with what a person is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

from deployer.errors import DeployerError, DownError, FailedError
from deployer.host.deploy import Deploy
from deployer.host.heed import aborted_by
from deployer.model import EXIT_DONE, EXIT_DOWN, EXIT_FAILED, EXIT_KILLED, EXIT_PARTIAL

AGAIN = "push again when you like"
NOTHING = "nothing ran before, and nothing runs now"


@dataclass(frozen=True)
class Outcome:
    status: str
    exit_code: int
    error: Optional[DeployerError] = None


def done(deploy: Deploy) -> Outcome:
    """What was wanted runs; work was lost where a process had to be killed."""
    refused = deploy.journal.data("join", "refused")
    if refused:
        serves = f"{deploy.request.release} runs on {deploy.request.host}, and the pool sends it no traffic"
        error = FailedError(refused["why"], state=serves, hint=_to_join(refused))
        return Outcome("partial", EXIT_PARTIAL, error)
    ended = [*deploy.verdicts, *deploy.journal.told("service.stopped")]
    killed = any(one.get("verdict") == "killed" for one in ended)
    return Outcome("done", EXIT_KILLED if killed else EXIT_DONE)


def in_words(error: DeployerError) -> str:
    """What *error* says, in one line."""
    return f"{error.title}: {error.cause}" if error.cause else error.title


def bug(error: Exception) -> FailedError:
    """Something that deployer did not foresee, for a person."""
    title = f"deployer failed: {type(error).__name__}: {error}"
    return FailedError(title, hint="this is a bug in deployer; see engine.log")


def aborted(deploy: Deploy) -> str:
    """Who wanted what to end."""
    return f"{deploy.request.kind} aborted by {aborted_by(deploy)}"


def gone_back(deploy: Deploy, reason: str, came_back: bool) -> Outcome:
    """After a revert for *reason*: the old release serves again, or there was none, or it would not start either."""
    by_a_person = aborted_by(deploy) is not None
    refused = deploy.journal.has("pool", "begin") and not deploy.journal.has("pool", "done")
    told = by_a_person or refused
    title = reason if told else f"{deploy.request.host} did not become ready on {deploy.request.release}"
    cause = None if told else reason
    left = deploy.journal.data("join", "refused")
    if came_back and left:
        state = "the old release runs, and the pool sends it no traffic"
        unjoined = FailedError(title, cause=str(left["why"]), state=state, hint=_to_join(left))
        return Outcome("partial", EXIT_PARTIAL, unjoined)
    if came_back:
        back = (deploy.request.previous or {}).get("spec", {}).get("release")
        hint = "fix the release and push again; [check] or run.rehearse can find it before the old one is stopped"
        state = f"the old release {back} serves{'; it was not asked to stop' if deploy.request.overlaps else ' again'}"
        hint = "mend the pool and push again" if refused else hint
        error = FailedError(title, cause=cause, state=state, hint=AGAIN if by_a_person else hint)
        return Outcome("reverted", EXIT_FAILED, error)
    if by_a_person and deploy.request.previous is None:
        return Outcome("failed", EXIT_FAILED, FailedError(title, state=NOTHING, hint=AGAIN))
    down = "THE SERVICE IS DOWN: the old release would not start either; the keeper goes on trying"
    state = NOTHING if deploy.request.previous is None else down
    hint = "see `deployer logs`; push a release that works"
    return Outcome("down", EXIT_DOWN, DownError(title, cause=cause, state=state, hint=hint))


def _to_join(refused: Dict[str, Any]) -> str:
    """What to do about a pool that refused: what it said itself, where it said something."""
    return f"{refused.get('hint') or 'mend the pool'}; then call `deployer restart`"


def unwritten(error: DeployerError) -> Outcome:
    """The old process has gone, and the disk refuses the record without which nothing may be started."""
    down = DownError(
        "the deploy cannot go on: the host refuses to write it down",
        cause=error.cause or str(error), state="THE SERVICE IS DOWN: the old process has gone; the keeper goes on trying",
        hint="mend the disk of this host (df -h; df -i; dmesg), then call `deployer status`: the deploy goes on by itself",
    )  # fmt: skip
    return Outcome("down", EXIT_DOWN, down)
