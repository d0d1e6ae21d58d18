"""What an agent is asked with, for tests that speak to it directly."""

from __future__ import annotations

from typing import Any

SETTINGS: dict[str, Any] = {
    "app": "t-app",
    "strategy": "restart",
    "run": {
        "command": ["true"], "env": {}, "env_file": None, "secrets": [], "linked": [], "socket": None, "ports": [],
        "rehearse": False, "max_draining": 3,
    },
    "health": {
        "url": None, "interval": 0.2, "timeout": 2.0, "ready_within": 60.0, "streak": 2, "busy": None, "alive_for": 2.0,
    },
    "drain": {
        "signal": "SIGTERM", "signal_to": "main", "ceiling": 60.0, "longest_task": None, "app_grace": None, "quiet": None,
        "wait_idle": None, "last_call": None, "last_call_before": 30.0, "revert_ceiling": 30.0,
    },
    "install": {"command": None, "timeout": 1.0},
    "check": {"command": None, "timeout": 1.0},
    "services": {},
}  # fmt: skip
OPEN: dict[str, Any] = {
    "kind": "push", "who": "me", "settings": SETTINGS, "wait_lock": 0, "supersede": False, "detach": False,
}  # fmt: skip


def target(host: str, path: str = "~/app") -> dict[str, Any]:
    return {"name": "fleet", "host": host, "path": path, "keep": 5, "supervisor": "builtin", "adopt": None}
