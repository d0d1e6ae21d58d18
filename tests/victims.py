"""Who can be killed, and what the record on the host says, seen from outside: as a person with a shell would."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

from app import App, alive, read, wait_until


def rows(app: App, sql: str, *values: Any) -> list[dict[str, Any]]:
    """What state.db says; nothing while there is none."""
    path = app.host / ".deployer" / "state.db"
    if not path.exists():
        return []
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    database.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in database.execute(sql, values)]
    except sqlite3.OperationalError:  # being created just now
        return []
    finally:
        database.close()


def keepers(app: App) -> list[int]:
    """The living keepers of *app*."""
    return _engines(app, "keeper")


def keeper(app: App) -> int:
    """The one living keeper of *app*, as soon as there is one."""
    found: list[int] = wait_until(lambda: keepers(app), what="a keeper")
    assert len(found) == 1, found
    return found[0]


def runners(app: App) -> list[int]:
    """Who holds the deploy lock: the runner; before the commit, the client's agent."""
    path = app.host / ".deployer" / "lock"
    pid = json.loads(path.read_text())["pid"] if path.exists() else 0
    return [pid] if pid and _holds(pid, str(path)) else []


def agents(app: App) -> list[int]:
    """The engine processes that clients of *app* talk to: children of `deployer`, in its directory."""
    return [pid for pid in _children_of_clients(app) if "agent" in _argv(pid)]


def kill(pid: int, signum: int = signal.SIGKILL) -> None:
    """Send *signum* to *pid*, and see it go where that ends it."""
    os.kill(pid, signum)
    if signum == signal.SIGKILL:
        wait_until(lambda: not alive(pid), what=f"{pid} has gone")


def power_cut(app: App, *others: int) -> list[int]:
    """
    What a power cut does, and the boot after it: *others*, the engine and the app die at once; the main processes that did.

    What was never synced is lost: marks, the lock's text, logs, a piece of the engine's copy. Sockets of the dead stay behind.
    The record is of another boot: its pids may be anybody's now.
    """
    mains = [int(line[2]) for line in app.lines("STARTS_FILE") if alive(int(line[2]))]
    for pid in [*others, *keepers(app), *app.processes()]:
        _kill_at_once(pid)
    while left := app.processes():  # started a moment before its parent died
        for pid in left:
            _kill_at_once(pid)
    private = app.host / ".deployer"
    for lost in [*private.glob("mark-*"), private / "state.db-shm"]:
        lost.unlink(missing_ok=True)
    for torn in [
        private / "lock",
        private / "engine.log",
        *sorted(private.glob("engine/*/deployer/host/state.py"))[:1],
    ]:
        if torn.exists():
            os.truncate(torn, 0)
    _another_boot(private / "state.db")
    return mains


def _kill_at_once(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _another_boot(path: Path) -> None:
    with sqlite3.connect(path, timeout=10) as database:
        database.execute("UPDATE instances SET boot='another' WHERE boot IS NOT NULL")
        database.execute(
            "UPDATE drains SET boot='another', asked_mono=asked_mono+1e6, deadline_mono=deadline_mono+1e6 "
            "WHERE verdict IS NULL"
        )
    database.close()


def opened(pid: int) -> list[str]:
    """What *pid* has open, as the links in /proc say it."""
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]


def parent(pid: int) -> int:
    """The parent of *pid*; 0 when it has gone."""
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def instance_of(pid: int) -> str:
    """The DEPLOYER_INSTANCE that *pid* was started as."""
    return environment_of(pid)["DEPLOYER_INSTANCE"]


def environment_of(pid: int) -> dict[str, str]:
    raw = read(f"/proc/{pid}/environ").decode()
    return dict(item.split("=", 1) for item in raw.split("\0") if "=" in item)


def ticks(pid: int) -> int:
    """The CPU time that *pid* has used, in hundredths of a second."""
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def signals_to_mains(app: App) -> dict[str, int]:
    """How many SIGTERMs each main process has seen, by pid."""
    found: dict[str, int] = {}
    for name, role, pid, *_ in app.lines("SIGNALS_FILE"):
        if (name, role) == ("SIGTERM", "main"):
            found[pid] = found.get(pid, 0) + 1
    return found


def unfinished(app: App) -> list[dict[str, Any]]:
    """The deploys that nobody has ended."""
    return rows(app, "SELECT id, kind, step FROM deploys WHERE ended_at IS NULL")


def _engines(app: App, role: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            argv = _argv(int(name))
            if role in argv and str(app.host) in argv and alive(int(name)):
                found.append(int(name))
    return found


def _argv(pid: int) -> list[str]:
    return [word.decode(errors="replace") for word in read(f"/proc/{pid}/cmdline").split(b"\0")]


def _children_of_clients(app: App) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and alive(int(name)):
            parent = read(f"/proc/{name}/stat").rpartition(b")")[2].split()[1:2]
            if parent and _cwd(int(parent[0])) == str(app.root) and "deployer" in _argv(int(parent[0])):
                found.append(int(name))
    return found


def _cwd(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None


def _holds(pid: int, path: str) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == path for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False
