"""`explain`: one deploy from the record, with what can be seen of it now while it is under way."""

from __future__ import annotations

import json
import time
from typing import Any, Callable, Dict, List, Optional

from deployer.errors import DeployerError, UsageError
from deployer.host import history, journal, lock, log_tails
from deployer.host.deploy import DRAIN
from deployer.host.drain import CRASH
from deployer.host.paths import HostPaths
from deployer.host.state import Row, State, opened
from deployer.host.timeline import Record, entries
from deployer.host.waits import waits

CANDIDATES = 5
"""Deploys that are named when it is not clear which one is meant."""

Look = Callable[[], Dict[str, Any]]


def explain(paths: HostPaths, asked: Optional[str], look: Look) -> Dict[str, Any]:
    """
    `deploy` (as in `history`), `timeline`, `waits` and `logs` of the deploy that *asked* begins the name of; None: the last.

    *look* gives the Facts, and is called only for a deploy under way. Raises UsageError when there is no such deploy, or more.
    """
    with opened(paths.state) as state:
        if state is None:
            raise _none(asked)
        row = choose(state, asked)
        record = _record(paths, state, row, look)
        found = entries(record)
        total = (record.now if record.end is None else record.end) - record.start
        return {
            "deploy": history.describe(state, row),
            "timeline": found,
            "waits": waits(found, total, record.end is None),
            "logs": _logs(paths, state, record),
        }


def choose(state: State, asked: Optional[str]) -> Row:
    """The row of the deploy that is meant. Raises UsageError that names the candidates."""
    if asked is None:
        last = state.row("SELECT * FROM deploys ORDER BY started_at DESC, rowid DESC LIMIT 1")
        if last is None:
            raise _none(None)
        return last
    found = state.rows(
        "SELECT * FROM deploys WHERE substr(id, 1, ?)=? ORDER BY started_at DESC, rowid DESC", len(asked), asked
    )
    exact = [row for row in found if row["id"] == asked]
    if len(found) > 1 and not exact:
        raise _several(asked, [str(row["id"]) for row in found])
    if not found:
        raise _none(asked)
    return (exact or found)[0]


def _record(paths: HostPaths, state: State, row: Row, look: Look) -> Record:
    name = row["id"]
    drains = state.rows(
        "SELECT * FROM drains WHERE deploy=? AND who IS NOT ? ORDER BY asked_at, rowid", name, CRASH
    )  # fmt: skip
    under_way = row["ended_at"] is None
    return Record(
        deploy=row,
        journal=state.rows("SELECT * FROM journal WHERE deploy=? ORDER BY seq", name),
        events=[json.loads(stored["event"]) for stored in journal.events(state, name)],
        drains=drains,
        signals=state.rows(
            "SELECT s.* FROM signals s JOIN drains d ON d.instance=s.instance WHERE d.deploy=? AND d.who IS NOT ? "
            "ORDER BY s.intended_at, s.rowid",
            name, CRASH,
        ),
        instances=state.rows(
            "SELECT * FROM instances WHERE deploy=? OR id IN (SELECT instance FROM drains WHERE deploy=?) "
            "ORDER BY created_at, rowid",
            name, name,
        ),
        now=time.time(),
        working=_working(look) if under_way and any(drain["verdict"] is None for drain in drains) else [],
        running=not under_way or not lock.free(paths.drain_lock(name) if row["step"] == DRAIN else paths.lock),
    )  # fmt: skip


def _working(look: Look) -> List[Dict[str, Any]]:
    facts = look()
    return facts["health"]["tasks"] if facts["draining"] else []


def _logs(paths: HostPaths, state: State, record: Record) -> Dict[str, List[str]]:
    new = record.request.get("instance")
    drained = [drain["instance"] for drain in record.drains if drain["instance"] != new]
    kept = log_tails.kept(state, record.deploy["id"])
    if record.end is None:  # what is not written down yet is still to be read
        live = {"old": _live(paths, state, drained), "new": _live(paths, state, [new] if new else [])}
        kept = {**live, **kept}
    engine = log_tails.engine(paths, record.start, record.end)
    return {"old": kept.get("old", []), "new": kept.get("new", []), "engine": engine}


def _live(paths: HostPaths, state: State, instances: List[str]) -> List[str]:
    try:
        return log_tails.first(paths, state, instances) or []
    except DeployerError:
        return []


def _none(asked: Optional[str]) -> UsageError:
    if asked is None:
        return UsageError("nothing was deployed here yet", state="nothing was changed", hint="deployer push")
    return UsageError(f'no deploy here is called "{asked}"', state="nothing was changed", hint="see `deployer history`")


def _several(asked: str, names: List[str]) -> UsageError:
    more = f"\nand {len(names) - CANDIDATES} more" if len(names) > CANDIDATES else ""
    return UsageError(
        f'{len(names)} deploys begin with "{asked}"',
        cause="\n".join(names[:CANDIDATES]) + more,
        state="nothing was changed",
        hint="give more of the name; see `deployer history`",
    )
