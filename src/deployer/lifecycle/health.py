"""The document of /health: what the contract says (docs, "The app's side"), from the facts of a Lifecycle."""

from __future__ import annotations

import json
import time
from typing import Any, Dict, Optional, Tuple

from deployer.lifecycle.tasks import instant

STUCK_AFTER = 1.0
"""Seconds. A loop that has not turned for so long is busy with something that it was never told to name."""
OK, AWAY = 200, 503


def document(facts: Dict[str, Any], pid: int, release: Optional[str]) -> Tuple[int, Dict[str, Any]]:
    """
    Status code and document: 200, or 503 while starting or shutting down.

    A blocked loop is a task of its own, so that whoever waits for us sees work and not an idle process.
    """
    tasks, stuck = list(facts["tasks"]), facts.get("stuck")
    busy = facts["busy"]
    if stuck is not None and stuck > STUCK_AFTER:
        began = instant(time.time() - stuck)
        tasks.append({"id": "loop", "name": "event loop blocked", "started_at": began})
        busy += 1
    said: Dict[str, Any] = {"status": facts["status"], "busy": busy, "tasks": tasks, "release": release, "pid": pid}
    if stuck is not None:
        said["stuck"] = round(stuck, 1)
    return (OK if said["status"] == "ok" else AWAY), said


def body(said: Dict[str, Any]) -> bytes:
    """*said* as it is sent."""
    return json.dumps(said).encode() + b"\n"
