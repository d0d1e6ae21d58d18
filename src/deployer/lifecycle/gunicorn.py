"""
Settings and hooks for gunicorn: gunicorn.conf.py begins with `from deployer.lifecycle.gunicorn import *`; below it are your own.

The app is `life.wsgi(app)`, or a Flask app whose `wsgi_app` is. Each worker process has a Lifecycle of its own, started here: its
SIGTERM stops the worker accepting at once, and the worker goes when its tasks are done. /health is answered by one of the workers,
and can tell of that one only; deployer waits for all of them, because it waits for processes.
"""

from __future__ import annotations

import signal
from typing import Any

__all__ = ["control_socket_disable", "graceful_timeout", "post_worker_init", "threads", "worker_class", "worker_exit"]

worker_class = "gthread"  # says `Connection: close` while it stops, and beats beside a long request
threads = 8
graceful_timeout = 7 * 86400
"""Seconds until the master kills: `max_wait` is the limit, and drain.ceiling the one outside of it. gunicorn's own are 30 s."""
control_socket_disable = True
"""gunicorn 27: one socket in the home directory for all; two generations would meet there."""


def post_worker_init(worker: Any) -> None:
    """The app is loaded, and signals are gunicorn's: from here on they are the Lifecycle's."""
    life = _life_of(worker.wsgi)
    life.on_leaving(lambda: worker.handle_exit(signal.SIGTERM, None))
    life.start()


def worker_exit(_server: Any, worker: Any) -> None:
    """The worker has answered everything: what it has begun besides is waited for, and its registry told."""
    if hasattr(worker, "wsgi"):  # the master calls us as well, for a worker that is gone
        _life_of(worker.wsgi).stop("gunicorn")


def _life_of(app: Any) -> Any:
    for one in (app, getattr(app, "wsgi_app", None)):
        life = getattr(one, "life", None)
        if hasattr(life, "on_leaving"):
            return life
    raise TypeError(
        "deployer.lifecycle.gunicorn: this app has no Lifecycle; "
        "write `app.wsgi_app = life.wsgi(app.wsgi_app)` (Flask), or serve `life.wsgi(app)`"
    )
