"""The settings of a simulated release: no port, no URL, so that ready is a matter of the process table and the clock."""

from __future__ import annotations

from typing import Any

CEILING = 660.0
REVERT_CEILING = 30.0


def settings(
    program: str, quiet: str | None = None, check: bool = False, strategy: str = "restart", max_draining: int = 3
) -> dict[str, Any]:
    """Those of a release that runs *program* (sim_programs.PROGRAMS)."""
    never = program.startswith("never-ready")
    return {
        "app": "app",
        "strategy": strategy,
        "run": {
            "command": ["/bin/sh", "-c", program], "env": {}, "env_file": None, "secrets": [], "linked": [],
            "socket": None, "ports": [], "rehearse": False, "max_draining": max_draining,
        },
        "health": {
            "url": None, "interval": 1.0, "timeout": 1.0, "ready_within": 1.0 if never else 60.0, "streak": 1,
            "busy": None, "alive_for": 2.0,
        },
        "drain": {
            "signal": "SIGTERM", "signal_to": "main", "ceiling": CEILING, "longest_task": None, "app_grace": None,
            "quiet": quiet, "wait_idle": None, "last_call": None, "last_call_before": 0.0,
            "revert_ceiling": REVERT_CEILING,
        },
        "install": {"command": None, "timeout": 60.0},
        "check": {"command": ["true"] if check else None, "timeout": 60.0},
        "services": {},
    }  # fmt: skip


TARGET = {"name": "local", "host": "local", "path": "/simulated", "keep": 5, "supervisor": "builtin", "adopt": None}
