"""What a person is told who stopped the client: what goes on, what is done, what was not touched."""

from __future__ import annotations

from collections.abc import Iterable

from deployer.errors import Interrupted
from deployer.rollout.part import Part

_GOES_ON = {
    "abort": "it is aborted on the host: the old process finishes its work, then the old release starts again",
    "stop": "it goes on on the host: the old process finishes its work, then it is gone",
}
_PUSH = "it goes on on the host: the old process finishes its work, then the new release starts"
_JOB_GOES_ON = {
    "abort": "it is aborted on the host: the job is stopped, then its services are cleaned up",
    "stop": "it goes on on the host: what runs of the job is stopped and cleaned up",
}
_JOB = "the job goes on on the host, which cleans up when it has ended"
_SHOWN = 12


def interrupted(parts: Iterable[Part], kind: str, of_job: bool = False) -> Interrupted:
    """The error that ends a command of *kind*, to a service or *of_job*, which was stopped by Ctrl-C, or by SIGTERM from CI."""
    parts = list(parts)
    going = [part for part in parts if part.committed and part.finished is None]
    deploy = next((part.deploy for part in parts if part.deploy), None)
    if not any(part.committed for part in parts):
        state = "nothing was changed; the running release was not touched"
        hint = "push again when you like"
        if of_job:
            state, hint = "nothing was started", "run it again when you like"
        return Interrupted(f"{kind} stopped", state=state, hint=hint)
    if len(parts) == 1:
        hint = "follow it with `deployer attach`" + (
            "" if kind == "abort" else ", or take it back with `deployer abort`"
        )
        state = _JOB_GOES_ON.get(kind, _JOB) if of_job else _GOES_ON.get(kind, _PUSH)
        return Interrupted(f"detached from {deploy}", state=state, hint=hint)
    ended: dict[str, list[str]] = {}
    for part in parts:
        if part.finished is not None:
            ended.setdefault(str(part.finished["status"]), []).append(part.host)
    untouched = [part.host for part in parts if part.finished is None and not part.committed]
    state = "; ".join(
        [
            *([f"it goes on on {_names(going)}"] if going else []),
            *(f"{status}: {_names(hosts)}" for status, hosts in ended.items()),
            *([f"not touched: {_names(untouched)}"] if untouched else []),
        ]
    )
    hint = "follow it with `deployer attach`; " if going else ""
    return Interrupted(f"detached from {deploy}", state=state, hint=hint + "push again to finish the rollout")


def _names(parts: Iterable[Part | str]) -> str:
    names = [part if isinstance(part, str) else part.host for part in parts]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
