"""
One app under each supervisor, for what every one of them must keep (e2e/test_supervisor_contract.py). A new one is a class here.

launchd is not here: there is no macOS to run it on; tests/unit holds its plists and its commands.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from app import SERVICES, App, make_app, pids, read
from systemd_rig import InsideApp, app_in, user_manager


class Supervised(App):
    """An app whose target has `supervisor` set; what a test does to its processes, it does here."""

    supervisor = "builtin"

    def configure(
        self, run: str = "", args: list[str] | None = None, health: str | None = None, more: str = "", **tables: str
    ) -> None:
        if args is not None:
            self.args = args
        super().configure(run, args, health, self.target(run) + more, **tables)

    def target(self, run: str) -> str:
        """More lines of [target.local]."""
        return f'supervisor = "{self.supervisor}"\n'

    def kill(self, *pids: int) -> None:
        """SIGKILL to processes as they call themselves."""
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def engines(self, role: str) -> list[int]:
        """Our engine's processes of this *role*, as they call themselves."""
        words = f"host/__main__.py\0{role}\0{self.host}\0".encode()
        return [pid for pid in pids() if words in read(f"/proc/{pid}/cmdline")]

    def printed(self) -> str:
        """Everything that anybody may read without being root: command lines, units, logs, records."""
        seen = [read(f"/proc/{pid}/cmdline").decode(errors="replace") for pid in pids()]
        files = [path for path in (self.host / ".deployer").rglob("*") if path.is_file()]
        closed = [path for path in files if path.parent.name == "secrets" or path.suffix == ".env"]
        assert closed and all(path.stat().st_mode & 0o077 == 0 for path in closed)
        readable = [*(path for path in files if path not in closed), *(self.host / "logs").glob("*")]
        seen += [path.read_bytes().decode(errors="replace") for path in readable]
        return "\n".join(seen)


class Commanded(Supervised):
    """The process belongs to tests/services/tinyvisor.py."""

    supervisor = "command"

    def visor(self, *words: str) -> list[str]:
        return [sys.executable, "-S", str(SERVICES / "tinyvisor.py"), str(self.root / "visor"), *words]

    def target(self, run: str) -> str:
        written = tomllib.loads(run).get("command") if "command" in run else None
        argv = ["sh", "-c", written] if isinstance(written, str) else written
        argv = argv or [sys.executable, "-S", "service.py", "--port", str(self.port), *self.args]
        commands: dict[str, Any] = {what: self.visor(what) for what in ("stop", "status", "pid")}
        commands["start"] = self.visor("start", "--", *argv)
        lines = "".join(f"{name} = {json.dumps(command)}\n" for name, command in commands.items())
        return super().target(run) + f"[target.local.commands]\n{lines}"


class UnderSystemd(Supervised, InsideApp):
    """A unit of a real `systemd --user`."""

    supervisor = "systemd-user"

    def kill(self, *pids: int) -> None:
        self.manager.run(["kill", "-KILL", *map(str, pids)], check=False)

    def engines(self, role: str) -> list[int]:
        found = self.manager.run(["pgrep", "-f", f"host/__main__.py {role} {self.host}"], check=False).out
        return [int(pid) for pid in found.split()]

    def printed(self) -> str:
        units = [path for path in self.manager.units.rglob("*") if path.is_file()]
        return super().printed() + "\n".join(path.read_text() for path in units)


@contextmanager
def _plain(kind: Callable[[Path, int], App], root: Path) -> Iterator[App]:
    with make_app(root, kind) as made:
        yield made


@contextmanager
def supervised(kind: str, root: Path) -> Iterator[Supervised]:
    """An app under the supervisor *kind*, in *root* where it may be anywhere."""
    with ExitStack() as opened:
        if kind.startswith("systemd-user"):
            manager = opened.enter_context(user_manager(throwaway=kind.endswith("of a user")))
            made: App = opened.enter_context(app_in(manager, kind=UnderSystemd))
        else:
            made = opened.enter_context(_plain({"builtin": Supervised, "command": Commanded}[kind], root))
        assert isinstance(made, Supervised)
        yield made
