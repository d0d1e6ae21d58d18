"""A crash that leaves children behind: they are asked to stop, and the service is back within its own ceiling."""

from __future__ import annotations

import os
import signal

from app import App, alive, wait_until


def test_crash_that_leaves_a_deaf_child_is_over_at_the_releases_own_ceiling(app: App) -> None:
    app.configure(args=["--spawn", "child:60:ignore"], drain='ceiling = "2s"')
    app.push()
    old = app.get()["pid"]
    deaf = wait_until(
        lambda: [int(line[2]) for line in app.lines("STARTS_FILE") if line[1] == "child"], what="its child"
    )
    os.kill(old, signal.SIGKILL)
    back = wait_until(lambda: (now := app.get())["pid"] != old and now, what="the service is back")
    assert back["release"] == app.current() and not any(map(alive, deaf))


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
