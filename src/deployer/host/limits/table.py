"""
Which programs limit the end of their own work: application servers and process managers, option by option.

Defaults are those of shared/research/mechanisms.md section 5, read from the programs' sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

INNER, OUTER = "inner", "outer"
"""Inside the ceiling (the server cuts its own work), or outside (somebody ends the server)."""


@dataclass(frozen=True)
class Limit:
    """
    One limit of a program: the option that sets it, its default in seconds (None: it waits for ever).

    `key` is its name in a config file: one of `files`, or what `file_options` name. `per` is the unit of a bare number.
    `env` may hold it, `env_args` further arguments. Where `zero` is None, 0 means for ever.
    """

    name: str
    options: Tuple[str, ...]
    default: Optional[float]
    acts: str
    key: Optional[str] = None
    files: Tuple[str, ...] = ()
    file_options: Tuple[str, ...] = ()
    env: Optional[str] = None
    env_args: Optional[str] = None
    per: float = 1.0
    kind: str = INNER
    zero: Optional[float] = 0.0


_GUNICORN: Dict[str, Any] = {
    "files": ("gunicorn.conf.py",), "file_options": ("-c", "--config"), "env_args": "GUNICORN_CMD_ARGS",
}  # fmt: skip
PM2 = Limit(
    "pm2 kill_timeout", ("--kill-timeout",), 1.6, "pm2 kills the app", "kill_timeout",
    ("ecosystem.config.js", "ecosystem.config.cjs", "ecosystem.json"), per=0.001,
)  # fmt: skip
_GRACEFUL = Limit(
    "gunicorn --graceful-timeout", ("--graceful-timeout",), 30.0, "gunicorn kills its workers", "graceful_timeout",
    **_GUNICORN,
)  # fmt: skip
SYNC = Limit(
    "gunicorn --timeout", ("-t", "--timeout"), 30.0, "gunicorn kills a sync worker at work", "timeout", zero=None,
    **_GUNICORN,
)  # fmt: skip

LIMITS: Dict[str, Tuple[Limit, ...]] = {
    "gunicorn": (_GRACEFUL, SYNC),
    "uvicorn": (
        Limit("uvicorn --timeout-graceful-shutdown", ("--timeout-graceful-shutdown",), None,
              "uvicorn cancels its requests", env="UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN"),
    ),
    "hypercorn": (
        Limit("hypercorn --graceful-timeout", ("--graceful-timeout",), 3.0, "hypercorn drops its requests",
              "graceful_timeout", file_options=("-c", "--config")),
    ),
    "granian": (
        Limit("granian --workers-kill-timeout", ("--workers-kill-timeout",), None, "granian kills its workers",
              env="GRANIAN_WORKERS_KILL_TIMEOUT"),
    ),
    "puma": (
        Limit("puma worker_shutdown_timeout", (), 30.0, "puma kills its workers", "worker_shutdown_timeout",
              ("config/puma.rb", "puma.rb"), ("-C", "--config")),
    ),
    "sidekiq": (
        Limit("sidekiq --timeout", ("-t", "--timeout"), 25.0, "sidekiq gives its jobs back", "timeout",
              ("config/sidekiq.yml",), ("-C", "--config")),
    ),
    "php-fpm": (
        Limit("php-fpm process_control_timeout", (), 0.0, "php-fpm kills its workers", "process_control_timeout",
              file_options=("-y", "--fpm-config")),
    ),
    "pm2": (PM2,),
    "pm2-runtime": (PM2,),
    "docker": (
        Limit("docker --stop-timeout", ("--stop-timeout",), 10.0, "docker stop kills the container", kind=OUTER),
    ),
    "compose": (
        Limit("compose stop_grace_period", ("-t", "--timeout"), 10.0, "compose kills the containers",
              "stop_grace_period", ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"),
              ("-f", "--file")),
    ),
    "supervisord": (
        Limit("supervisord stopwaitsecs", (), 10.0, "supervisord kills the program", "stopwaitsecs",
              ("supervisord.conf", "etc/supervisord.conf", "/etc/supervisord.conf", "/etc/supervisor/supervisord.conf"),
              ("-c", "--configuration")),
    ),
}  # fmt: skip

KNOWN = (*LIMITS, "podman", "docker-compose", "podman-compose", "timeout")
