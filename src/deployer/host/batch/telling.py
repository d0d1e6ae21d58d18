"""What a run tells of its services and its job: events, and the record that a resumed run goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

from deployer.host.batch.parts import Part
from deployer.host.deploy import Deploy

LARGEST = 256 * 1024
"""Bytes of a report that are taken into an event; a larger one is left out, and said to be."""

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
    told = {
        "service": part.name,
        "initialized": bool(own.get("initialized", ready)),
        "cleanup_called": bool(own.get("cleanup_called", bool(ended))) if part.report else bool(ended),
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
        if path is None:
            return {}
        text = path.read_text("utf-8")
        found = json.loads(text) if len(text) <= LARGEST else {"error": f"the report has {len(text)} bytes: left out"}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
