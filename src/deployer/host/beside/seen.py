"""What there is of the services beside an app, seen without asking or changing anybody."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional, Set

from deployer.host.beside.homes import homes
from deployer.host.instance import Instance, alive_rows, from_row, spec_of
from deployer.host.journal import timestamp
from deployer.host.paths import HostPaths
from deployer.host.process import Processes
from deployer.host.state import Row, State

Facts = Dict[str, Any]


def look(paths: HostPaths, processes: Processes) -> List[Facts]:
    """
    Every service of the app at *paths* that runs or should: `name`, `pid`, `release`, `state`, `uptime_s`, and what else is known.

    `state`: running, starting (nobody has proven it yet), draining, crashed (its keeper starts it again), failed.
    """
    found = []
    for name, own in homes(paths).items():
        state = State(own.state)
        try:
            one = _look(name, state, processes)
        finally:
            state.close()
        if one is not None:
            found.append(one)
    return found


def in_use(paths: HostPaths) -> Set[str]:
    """The releases that services run in, or would be started in again."""
    found: Set[str] = set()
    for own in homes(paths).values():
        state = State(own.state)
        try:
            rows = [*alive_rows(state), _desired(state)]
            promised = state.rows("SELECT * FROM instances WHERE state='promised'")
            found |= {str(row["release"]) for row in [*rows, *promised] if row is not None}
        finally:
            state.close()
    return found


def _look(name: str, state: State, processes: Processes) -> Optional[Facts]:
    desired = _desired(state)
    alive = [from_row(row, processes) for row in alive_rows(state)]
    try:
        living = [one for one in alive if one.members()]
        if desired is None and not living:
            return None
        wanted = next((one for one in living if desired is not None and one.id == desired["id"]), None)
        return _facts(name, desired, wanted or next(iter(living), None), wanted is not None)
    finally:
        for one in alive:
            one.tree.close()


def _facts(name: str, desired: Optional[Row], one: Optional[Instance], wanted: bool) -> Facts:
    confirmed = bool(desired and desired["confirmed"])
    if wanted:
        state = "running" if confirmed else "starting"
    else:
        state = "draining" if one is not None else "crashed" if confirmed else "failed"
    spec = one.spec if one is not None else spec_of(desired) if desired is not None else None
    assert spec is not None
    return {
        "name": name, "state": state, "release": spec.release, "id": spec.id, "fingerprint": spec.fingerprint,
        "pid": one.main.pid if one else None, "started_at": timestamp(one.started_at) if one else None,
        "uptime_s": round(max(0.0, time.time() - one.started_at), 1) if one else None, "command": " ".join(spec.argv),
        "crashes": int((desired or {}).get("crashes") or 0), "pids": [stat.pid for stat in one.members()] if one else [],
    }  # fmt: skip


def _desired(state: State) -> Optional[Row]:
    wanted = state.meta("desired")
    return state.row("SELECT * FROM instances WHERE id=?", wanted) if wanted else None
