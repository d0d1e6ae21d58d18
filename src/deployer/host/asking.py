"""Ask whoever carries out the deploy under way to abort it or to move its drain, from another connection."""

from __future__ import annotations

import json
import signal
import time
from typing import Any, Dict, Optional

from deployer.errors import DeployerError, FailedError
from deployer.host import disk, lock, unix
from deployer.host.control import ABORT, ANSWER_WITHIN, NOW, over
from deployer.host.paths import HostPaths
from deployer.host.process import Handle, Processes
from deployer.host.state import State
from deployer.host.supervisors import builtin
from deployer.host.tree import is_engine
from deployer.wire import frames

FOUND_WITHIN = 15.0
"""Seconds until somebody must be there who carries the deploy out: a runner that died is replaced meanwhile."""
LOOK_AGAIN = 0.1

Facts = Dict[str, Any]


def control(paths: HostPaths, what: str, who: str, seconds: float) -> Facts:
    """
    Do *what* (abort, extend, now) to the deploy under way. `nothing` is True when there is none, `prepared` when it was stopped
    before it was handed over to this host, `over` when it had just ended.

    Raises FailedError when it is under way and this cannot be done to it (any more).
    """
    deadline = time.monotonic() + FOUND_WITHIN
    stopped: Optional[str] = None
    while time.monotonic() < deadline:
        holder = {} if lock.free(paths.lock) else lock.holder(paths.lock)
        unfinished = _unfinished(paths)
        held = str(holder.get("deploy") or stopped or "")
        if unfinished is not None:
            answer = _ask_runner(paths, {"op": "control", "what": what, "who": who, "seconds": seconds})
            if answer is not None:
                return {"deploy": unfinished, **answer}
            if not holder:
                builtin.resume(paths, unfinished)
        elif held and _is_recorded(paths, held):  # by now it is: its runner lets go of the lock a moment after the end
            return _over(held, what)
        elif not holder:
            return {"deploy": None, "prepared": True} if stopped else _without_deploy(paths, what, who, seconds)
        elif what != ABORT:
            raise _preparing(holder)
        elif stopped != held and _stop_agent(paths, holder, who):
            stopped = held
        time.sleep(LOOK_AGAIN)
    raise FailedError(
        f"nobody on the host answers for the deploy under way within {FOUND_WITHIN:g} s",
        cause=f"see {paths.engine_log}",
        state="nothing was changed by this call",
        hint="see `deployer status`",
    )


def stopped_by(paths: HostPaths, deploy: str) -> str:
    """Who stopped *deploy* before it was handed over."""
    try:
        said = json.loads(paths.abort.read_text("utf-8"))
    except (OSError, ValueError):
        said = {}
    return str(said.get("who")) if said.get("deploy") == deploy else "a signal"


def _unfinished(paths: HostPaths) -> Optional[str]:
    if not paths.state.exists():
        return None
    state = State(paths.state)
    try:
        row = state.row("SELECT id FROM deploys WHERE ended_at IS NULL ORDER BY started_at DESC LIMIT 1")
        return row["id"] if row else None
    finally:
        state.close()


def _is_recorded(paths: HostPaths, deploy: str) -> bool:
    """Whether *deploy* was handed over to this host, ended or not."""
    if not paths.state.exists():
        return False
    state = State(paths.state)
    try:
        return state.row("SELECT 1 FROM deploys WHERE id=?", deploy) is not None
    finally:
        state.close()


def _over(deploy: str, what: str) -> Facts:
    if what != ABORT:
        raise over()
    return {"deploy": deploy, "over": True}


def _ask_runner(paths: HostPaths, request: Facts) -> Optional[Facts]:
    """The runner's answer; None when none answers."""
    try:
        with unix.connect(paths.runner_socket, ANSWER_WITHIN + 2) as connection:
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
        disk.write_atomically(str(paths.abort), json.dumps(note).encode())
        handle.send(signal.SIGTERM)  # it knows better than to die of it in the middle of handing over
    finally:
        handle.close()
    return True


def _agent(holder: Facts) -> Optional[Handle]:
    processes = Processes()
    identity = processes.identity(int(holder.get("pid") or 0))
    if identity is None or not is_engine(processes.environ(identity.pid)):
        return None
    return processes.open(identity)


def _without_deploy(paths: HostPaths, what: str, who: str, seconds: float) -> Facts:
    """No deploy, and yet something may drain: what a crash left behind, which only the keeper knows."""
    says = builtin.look(paths) if what != ABORT else None
    draining = [one for one in says["instances"] if one["drain"]] if says else []
    if not draining:
        return {"nothing": True}
    keeper = builtin.Builtin(paths)
    moved = []
    for one in draining:
        deadline = time.monotonic() + (0.0 if what == NOW else one["drain"]["left_s"] + seconds)
        if keeper.move_deadline(one["id"], deadline, who):
            moved.append({"pid": one["pid"], "who": who})
    keeper.close()
    return {"drains": moved}


def _preparing(holder: Facts) -> FailedError:
    return FailedError(
        "nothing drains yet",
        cause=f"{holder.get('deploy')} by {holder.get('who')} is still being prepared",
        state="nothing was changed by this call",
        hint="ask again once it drains; `deployer attach` shows when",
    )
