"""A crash that leaves children behind: they are asked to stop, and the service is back within its own ceiling."""

from __future__ import annotations

import os
import signal

from app import App, wait_until


def test_crash_that_leaves_a_deaf_child_is_over_at_the_releases_own_ceiling(app: App) -> None:
    app.configure(args=["--spawn", "child:60:ignore"], drain='ceiling = "2s"')
    app.push()
    old = app.get()["pid"]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: app.get()["pid"] != old, what="the service is back")


def test_push_after_such_a_crash_waits_no_longer_than_its_own_ceiling(app: App) -> None:
    app.configure(args=["--spawn", "child:60:ignore"], drain='ceiling = "10m"')
    app.push()
    os.kill(app.get()["pid"], signal.SIGKILL)
    wait_until(lambda: app.status()["draining"], what="what was left behind is asked to stop")
    app.configure(args=[])
    app.release("v2")
    result = app.push("--ceiling", "2s", check=5, timeout=60)
    assert result.seconds < 30
    assert app.get()["release"] == app.current()
