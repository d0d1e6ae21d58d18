"""
The ends of the logs that belong to a deploy: what the old release printed while it drained, what the new one printed.

They are kept with the deploy, for the app's log is rotated. The engine's own log is read where it lies.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from deployer.errors import DeployerError
from deployer.host import logs, spawn, unit_journal
from deployer.host.deploy import Deploy
from deployer.host.paths import HostPaths
from deployer.host.say import say
from deployer.host.state import Row, State
from deployer.wire.redaction import Redactor

KEPT_LINES = 20
"""Lines of each release's output that are kept with a deploy: as many as a failed start shows."""
LONGEST_LINE = 400
"""Characters of a kept line: a log of JSON documents must not fill state.db."""
ENGINE_LINES = 60
"""Lines of the engine's log that one deploy shows: a restart loop would show nothing else."""

STARTED = 1.0
"""Seconds before we saw it that a unit may have been started."""

Lines = List[str]


def keep(deploy: Deploy) -> None:
    """Write down the end of what the drained release and the new one have printed, once. Never raises: no log is worth a deploy."""
    new = deploy.request.instance
    drained = [str(verdict["instance"]) for verdict in deploy.verdicts]
    for role, names in (("old", [name for name in drained if name != new]), ("new", [new] if new else [])):
        try:
            if not deploy.journal.has("log", role):
                tail = first(deploy.paths, deploy.state, names)
                if tail is not None:
                    deploy.journal.note("log", role, tail=tail)
        except (DeployerError, OSError) as error:
            say(f"the end of the {role} log was not kept: {error}")


def first(paths: HostPaths, state: State, instances: List[str]) -> Optional[Lines]:
    """What `printed` says of the first of *instances* that has printed into our log."""
    tails = (printed(paths, state, name) for name in instances)
    return next((tail for tail in tails if tail is not None), None)


def printed(paths: HostPaths, state: State, instance: str) -> Optional[Lines]:
    """
    The end of what *instance* has printed, without its secrets; None where it has never been started by us.

    Raises UsageError where its secrets are damaged: then nobody can say what must not be shown.
    """
    end = logs.size(paths.app_log)  # before the look at who came next: what is there by now is not theirs
    row = state.row("SELECT * FROM instances WHERE id=?", instance)
    if row is None or row["adopted"] or row["log_offset"] is None:
        return None
    owner = _owner(row)
    if unit_journal.kept(owner):
        return _shown(
            unit_journal.tail(owner, KEPT_LINES, row["started_at"] - STARTED, row["ended_at"]), _redactor(paths, row)
        )
    after = state.row(
        "SELECT log_offset FROM instances WHERE started_at>? AND adopted=0 AND log_offset IS NOT NULL ORDER BY started_at LIMIT 1",
        row["started_at"],
    )
    return _shown(_cut(paths.app_log, row["log_offset"], after["log_offset"] if after else end), _redactor(paths, row))


def since_start(paths: HostPaths, state: State, instance: Optional[str], lines: int) -> Lines:
    """The last *lines* lines that were printed since *instance* was started; none where it never was."""
    row = state.row("SELECT * FROM instances WHERE id=?", instance) if instance else None
    owner = _owner(row)
    if row is not None and unit_journal.kept(owner):
        return unit_journal.tail(owner, lines, (row["started_at"] or time.time()) - STARTED)
    return logs.tail(paths.app_log, lines, offset=int((row or {}).get("log_offset") or 0))


def below(deploy: Deploy, instance: str, log: Path, why: str) -> str:
    """*why*, and in lines of their own the end of what *instance* has printed to *log* since it was started, without secrets."""
    row = deploy.state.row("SELECT log_offset FROM instances WHERE id=?", instance)
    lines = logs.tail(log, KEPT_LINES, offset=int((row or {}).get("log_offset") or 0))
    return "\n".join([why, *(f"  {line}" for line in _shown(lines, deploy.journal.redact))])


def _owner(row: Optional[Row]) -> Dict[str, Any]:
    spec = row["spec"] if row is not None else None
    return (json.loads(spec).get("owner") if spec else None) or {}


def engine(paths: HostPaths, start: float, end: Optional[float]) -> Lines:
    """What the keeper and the runners wrote from *start* to *end* (seconds since 1970; None: until now)."""
    first = _stamp(start)
    last = _stamp(end + 1) if end is not None else "9"
    found: Lines = []
    at = ""
    for path in (paths.engine_log.with_name(f"{paths.engine_log.name}.1"), paths.engine_log):
        for line in logs.tail(path, sys.maxsize, limit=logs.MAX_BYTES):
            # A traceback has no time of its own: it belongs to the line before it.
            at = line[:20] if _is_stamp(line[:20]) else at
            if first <= at <= last:
                found.append(line[:LONGEST_LINE])
    return found[-ENGINE_LINES:]


def sign_in(deploy: str, doing: str) -> None:
    """Begin a runner's lines in the engine's log: by this one is known when, and in which deploy, what follows was said."""
    say(f"{_stamp(time.time())} runner {doing} {deploy}")


def _cut(path: Path, start: int, end: int) -> Lines:
    """The last lines of *path* from *start* to *end*, over one rotation in between."""
    rotated = end < start
    found = logs.tail(path, KEPT_LINES, offset=0 if rotated else start, until=end)
    if rotated and len(found) < KEPT_LINES:
        before = path.with_name(f"{path.name}.1")
        found = logs.tail(before, KEPT_LINES - len(found), offset=start) + found
    return found


def _shown(lines: Lines, redact: Callable[[Any], Any]) -> Lines:
    return [str(redact(line))[:LONGEST_LINE] for line in lines]


def _redactor(paths: HostPaths, row: Row) -> Redactor:
    # The old release may have had other values than the one that is pushed: each output is cleared of its own.
    return Redactor(spawn.read_secrets(paths.secrets_of(row["release"])))


def _stamp(wall: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))


def _is_stamp(text: str) -> bool:
    return len(text) == 20 and text[10] == "T" and text[19] == "Z" and text[:4].isdigit()


def kept(state: State, deploy: str) -> Dict[str, Lines]:
    """The ends that were written down with *deploy*, by role: old, new."""
    rows = state.rows("SELECT phase, data FROM journal WHERE deploy=? AND step='log' ORDER BY seq", deploy)
    return {row["phase"]: json.loads(row["data"])["tail"] for row in rows}
