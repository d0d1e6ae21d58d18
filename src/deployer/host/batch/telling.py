"""What a run tells of its services and its job: events, and the record that a resumed run goes on from."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any, Dict, Optional

from deployer.host.batch.parts import Part
from deployer.host.deploy import Deploy

LARGEST = 256 * 1024
"""Bytes of a report that are taken into an event; a larger one is left out, and said to be."""

DEEPEST = 50
"""Levels of a report, for the same reason: whoever handles it goes down them one by one."""

Report = Dict[str, Any]


def verdict(deploy: Deploy, instance: str) -> Report:
    """How the drain of *instance* ended; empty where it was never asked to stop."""
    row = deploy.state.row("SELECT verdict FROM drains WHERE instance=?", instance)
    found: Report = json.loads(row["verdict"]) if row and row["verdict"] else {}
    return found


def service_report(deploy: Deploy, part: Part, running: bool, was_ready: Optional[bool] = None) -> Report:
    """The line of the report for a service that was asked to stop, or has gone by itself; *was_ready* if not in the journal."""
    own, ended = read(part.report), verdict(deploy, part.spec.id)
    by_force = ended.get("verdict") == "killed"
    ready = deploy.journal.has(f"part {part.name}", "ready") if was_ready is None else was_ready
    called = bool(ended) and (part.report is None or bool(own.get("initialized")))
    told = {
        "service": part.name,
        "initialized": bool(own.get("initialized", ready)),
        "cleanup_called": bool(own.get("cleanup_called", called)),
        "cleanup_completed": (bool(own.get("cleanup_completed")) if part.report else bool(ended) and not by_force)
        and not running,
        "running": running,
        "seconds": round(float(ended.get("waited_s") or 0.0), 3),
        "error": own.get("error"),
        "verdict": ended.get("verdict"),
    }
    if by_force and not told["error"]:
        told["error"] = f"it did not end within {part.order.ceiling:g} s, and was killed"
    return told


def read(path: Optional[Path]) -> Report:
    """What is in the report at *path*; empty where there is none, or none that can be read."""
    try:
        text = _text(path) if path is not None else b""
        if len(text) > LARGEST:
            return {"error": f"the report has more than {LARGEST} bytes: left out"}
        found = json.loads(text)
    except (OSError, ValueError, RecursionError):  # a job writes there what it likes
        return {}
    if not isinstance(found, dict):
        return {}
    return found if _within(found, DEEPEST) else {"error": f"the report has more than {DEEPEST} levels: left out"}


def remove(path: Path) -> None:
    """No report is at *path* any more, whatever the job has made there. Never raises."""
    try:
        path.unlink()
    except FileNotFoundError:
        pass
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


def _text(path: Path) -> bytes:
    # O_NONBLOCK: nobody may ever write into what turns out to be a FIFO.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read(LARGEST + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""


def _within(value: Any, levels: int) -> bool:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_within(one, levels - 1) for one in below)
