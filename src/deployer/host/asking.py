"""Ask whoever carries out the deploy under way to abort it or to move its drain, from another connection."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, Optional, Tuple

from deployer.errors import DeployerError, FailedError
from deployer.host import disk, lock, unix
from deployer.host.control import ABORT, ANSWER_WITHIN, NOW, over
from deployer.host.deploy import in_drain, unfinished
from deployer.host.paths import HostPaths
from deployer.host.process import Handle, here
from deployer.host.state import opened
from deployer.host.supervisors import builtin
from deployer.host.tree import is_engine
from deployer.wire import frames

FOUND_WITHIN = 15.0
"""Seconds until somebody must be there who carries the deploy out: a runner that died is replaced meanwhile."""
LOOK_AGAIN = 0.1

RESUME_EVERY = 3.0
"""Seconds between two runners that are started for a deploy that has none."""

Facts = Dict[str, Any]


@dataclass(frozen=True)
class Request:
    """*what* (abort, extend, now) somebody asks of *deploy* (None: of whichever is under way now)."""

    what: str
    who: str
    seconds: float = 0.0
    deploy: Optional[str] = None


def control(paths: HostPaths, asked: Request) -> Facts:
    """
    Do what was *asked* to the deploy under way, to it alone: those who wait for the lock are not meant. `nothing` is True when
    there is none, `prepared` when it was stopped before it was handed over to this host, `over` when it had just ended.

    Raises FailedError when it is under way and this cannot be done to it (any more).
    """
    deadline = time.monotonic() + FOUND_WITHIN
    resume_at = time.monotonic()
    stopped = False
    while time.monotonic() < deadline:
        holder = {} if lock.free(paths.lock) else lock.holder(paths.lock)
        committed, asked = _committed(paths, asked, holder)
        under_way = committed or holder.get("deploy")
        asked = asked if asked.deploy else replace(asked, deploy=under_way)
        if asked.deploy is None:
            return _without_deploy(paths, asked)
        if under_way != asked.deploy or (committed is None and _is_recorded(paths, asked.deploy)):
            return _over(paths, asked)
        if committed is not None:
            answer = _ask_runner(paths, asked)
            if answer is not None:
                return {"deploy": committed, **answer}
            if holder.get("deploy") != committed and time.monotonic() >= resume_at:
                resume_at = time.monotonic() + RESUME_EVERY
                builtin.resume(paths, committed)
        elif asked.what != ABORT:
            raise _preparing(holder)
        else:
            stopped = stopped or _stop_agent(paths, holder, asked.who)
        time.sleep(LOOK_AGAIN)
    raise FailedError(
        f"nobody on the host answers for {asked.deploy} within {FOUND_WITHIN:g} s",
        cause=f"it was told to stop, and is in the middle of something; see {paths.engine_log}" if stopped else None,
        state="it goes on for now",
        hint="see `deployer status`",
    )


def stopped_by(paths: HostPaths, deploy: str) -> str:
    """Who stopped *deploy* before it was handed over."""
    try:
        said = json.loads(paths.abort.read_text("utf-8"))
    except (OSError, ValueError):
        said = {}
    paths.abort.unlink(missing_ok=True)
    return str(said.get("who")) if said.get("deploy") == deploy else "a signal"


def _committed(paths: HostPaths, asked: Request, holder: Facts) -> Tuple[Optional[str], Request]:
    """
    The deploy of this host that is meant, None while that is being prepared; and what is asked of it.

    Where nobody is named: the one with the lock, else the newest of those that wait for their drains. What is being prepared
    drains nothing: whoever wants to move a drain then means those.
    """
    with opened(paths.state) as state:
        row, drains = unfinished(state), [str(row["id"]) for row in in_drain(state)]
    if asked.deploy in drains:
        return asked.deploy, asked
    if row is not None:
        return str(row["id"]), asked
    prepared = holder.get("deploy")
    if prepared and drains and asked.what != ABORT and asked.deploy in (None, prepared):
        return drains[-1], replace(asked, deploy=drains[-1])
    return (None if prepared or not drains else drains[-1]), asked


def _is_recorded(paths: HostPaths, deploy: str) -> bool:
    """Whether *deploy* was handed over to this host, ended or not."""
    with opened(paths.state) as state:
        return state is not None and state.row("SELECT 1 FROM deploys WHERE id=?", deploy) is not None


def _over(paths: HostPaths, asked: Request) -> Facts:
    # By now it is no longer under way: it has ended, or it was never handed over, as with a build that failed or was stopped.
    if asked.what != ABORT:
        raise over()
    if _is_recorded(paths, str(asked.deploy)):
        return {"deploy": asked.deploy, "over": True}
    return {"deploy": asked.deploy, "prepared": True}


def _ask_runner(paths: HostPaths, asked: Request) -> Optional[Facts]:
    """The runner's answer; None when none answers."""
    request = {"op": "control", **asdict(asked)}
    try:
        with unix.connect(paths.runner_socket(str(asked.deploy)), ANSWER_WITHIN + 2) as connection:
            connection.sendall(frames.pack(request))
            with connection.makefile("rb") as stream:
                answer = frames.read(stream)
    except (OSError, frames.BrokenFrame):
        return None
    if not isinstance(answer, dict):
        return None
    if "error" in answer:
        raise DeployerError.from_json(answer["error"])
    found: Facts = answer["ok"]
    return found


def _stop_agent(paths: HostPaths, holder: Facts, who: str) -> bool:
    """Tell the agent that prepares a deploy for its client to let go; False when it is not there any more."""
    handle = _agent(holder)
    if handle is None:
        return False
    try:
        note = {"deploy": holder.get("deploy"), "who": who, "at": time.time()}
        try:
            disk.write_atomically(str(paths.abort), json.dumps(note).encode())
        except OSError:
            pass  # it only says who: to let go needs no disk
        handle.send(signal.SIGTERM)  # it knows better than to die of it in the middle of handing over
    finally:
        handle.close()
    return True


def _agent(holder: Facts) -> Optional[Handle]:
    processes = here()
    identity = processes.identity(int(holder.get("pid") or 0))
    if identity is None or not is_engine(processes.environ(identity.pid)):
        return None
    return processes.open(identity)


def _without_deploy(paths: HostPaths, asked: Request) -> Facts:
    """No deploy, and yet something may drain: what a crash left behind, which only the keeper knows."""
    says = builtin.look(paths) if asked.what != ABORT else None
    draining = [one for one in says["instances"] if one["drain"]] if says else []
    if not draining:
        return {"nothing": True}
    keeper = builtin.Builtin(paths)
    moved = []
    for one in draining:
        deadline = time.monotonic() + (0.0 if asked.what == NOW else one["drain"]["left_s"] + asked.seconds)
        if keeper.move_deadline(one["id"], deadline, asked.who):
            moved.append({"pid": one["pid"], "who": asked.who})
    keeper.close()
    return {"drains": moved}


def _preparing(holder: Facts) -> FailedError:
    return FailedError(
        "nothing drains yet",
        cause=f"{holder.get('deploy')} by {holder.get('who')} is still being prepared",
        state="nothing was changed by this call",
        hint="ask again once it drains; `deployer attach` shows when",
    )
