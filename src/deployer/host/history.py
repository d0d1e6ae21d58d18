"""The deploys of the past: how each ended, and each of its drains."""

from __future__ import annotations

import json
from typing import Any, Dict, List

from deployer.host.drain import CRASH
from deployer.host.journal import timestamp
from deployer.host.paths import HostPaths
from deployer.host.state import Row, State, opened


def past(paths: HostPaths, limit: int) -> List[Dict[str, Any]]:
    """The last *limit* deploys on this host, the newest first."""
    with opened(paths.state) as state:
        if state is None:
            return []
        rows = state.rows("SELECT * FROM deploys ORDER BY started_at DESC LIMIT ?", limit)
        return [describe(state, row) for row in rows]


def describe(state: State, row: Row) -> Dict[str, Any]:
    """One deploy for a client; `drains` are in the order in which they were asked for."""
    result = json.loads(row["result"]) if row["result"] else {}
    names = ("kind", "who", "started_at", "ended_at", "status", "exit_code", "release", "previous", "step")
    return {
        "deploy": row["id"], **{name: row[name] for name in names},
        **{name: row[name] and timestamp(row[name]) for name in ("started_at", "ended_at")},
        **{name: result.get(name) for name in ("verdict", "waited_s", "lost", "gap_ms", "error")},
        "drains": _drains(state, str(row["id"])),
    }  # fmt: skip


def _drains(state: State, deploy: str) -> List[Dict[str, Any]]:
    rows = state.rows(
        "SELECT d.instance, d.verdict, i.pid, i.release FROM drains d LEFT JOIN instances i ON i.id=d.instance "
        "WHERE d.deploy=? AND d.who IS NOT ? AND d.verdict IS NOT NULL ORDER BY d.asked_at, d.rowid",
        deploy, CRASH,
    )  # fmt: skip
    return [{**row, **_short(json.loads(row["verdict"]))} for row in rows]


def _short(verdict: Dict[str, Any]) -> Dict[str, Any]:
    return {name: verdict.get(name) for name in ("verdict", "waited_s", "exit_code")}
