"""What there is of the services beside an app, seen without asking or changing anybody."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional, Set

from deployer.host.beside.homes import home, homes
from deployer.host.instance import Instance, alive_rows, desired, from_row, spec_of
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
    found = (look_at(paths, name, processes) for name in homes(paths))
    return [one for one in found if one is not None]


def look_at(paths: HostPaths, name: str, processes: Processes) -> Optional[Facts]:
    """As `look`, of the service *name*; None where it neither runs nor should."""
    own = home(paths, name)
    if not own.state.exists():
        return None
    state = State(own.state)
    try:
        return _look(name, state, processes)
    finally:
        state.close()


def in_use(paths: HostPaths) -> Set[str]:
    """The releases that services run in, or would be started in again."""
    found: Set[str] = set()
    for own in homes(paths).values():
        state = State(own.state)
        try:
            rows = [*alive_rows(state), desired(state)]
            promised = state.rows("SELECT * FROM instances WHERE state='promised'")
            found |= {str(row["release"]) for row in [*rows, *promised] if row is not None}
        finally:
            state.close()
    return found


def _look(name: str, state: State, processes: Processes) -> Optional[Facts]:
    wanted = desired(state)
    alive = [from_row(row, processes) for row in alive_rows(state)]
    try:
        living = [one for one in alive if one.members()]
        if wanted is None and not living:
            return None
        meant = next((one for one in living if wanted is not None and one.id == wanted["id"]), None)
        return _facts(name, wanted, meant or next(iter(living), None), meant is not None)
    finally:
        for one in alive:
            one.tree.close()


def _facts(name: str, wanted: Optional[Row], one: Optional[Instance], is_meant: bool) -> Facts:
    """*one*: what runs of it; *is_meant*: that it is the one that is *wanted*."""
    confirmed = bool(wanted and wanted["confirmed"])
    if is_meant:
        state = "running" if confirmed else "starting"
    else:
        state = "draining" if one is not None else "crashed" if confirmed else "failed"
    spec = one.spec if one is not None else spec_of(wanted) if wanted is not None else None
    assert spec is not None
    return {
        "name": name, "state": state, "release": spec.release, "id": spec.id, "fingerprint": spec.fingerprint,
        "pid": one.main.pid if one else None, "started_at": timestamp(one.started_at) if one else None,
        "uptime_s": round(max(0.0, time.time() - one.started_at), 1) if one else None, "command": " ".join(spec.argv),
        "crashes": int((wanted or {}).get("crashes") or 0), "pids": [stat.pid for stat in one.members()] if one else [],
    }  # fmt: skip
