"""
An app with two services beside it: `cache` is a program, `queue` a class, the app is alike. Each writes down its turns.

    app.is_now("cache", "breaks")             what it does from the next push on; a change of its own files
    app.beside(cache="env = {SIZE = '2'}")    more lines of a service's table, or None for no such service
    app.turns()                               ["cache up", "queue up", "app up"], since the last `forget`
    app.pids()                                {"cache": 812, …} of what runs, by the turns, seen alive
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app import SERVICES, App, alive, make_app

NAMES = ("cache", "queue", "app")
COMMAND = '["{python}", "-S", "beside_service.py", "{name}"]'
TABLES = {"cache": f"command = {COMMAND}", "queue": 'class = "beside_service:Queue"\ncleanup_timeout = "2s"'}


class BesideApp(App):
    """See above."""

    def beside(
        self, cache: str | None = "", queue: str | None = "", run: str = "", more: str = "", strategy: str = "restart"
    ) -> None:
        text = f"""
app = "t-app"
strategy = "{strategy}"
[build]
artifact = "dist"
[run]
command = {_command("app")}
env = {{ HERE = {json.dumps(str(self.root))} }}
{run}
[health]
alive_for = "100ms"
[target.local]
path = {json.dumps(str(self.host))}
"""
        for name, lines in (("cache", cache), ("queue", queue)):
            if lines is not None:
                own = TABLES[name].replace(COMMAND, _command(name))
                text += f'[services.{name}]\n{own}\nfiles = ["{name}/"]\n{lines}\n[services.{name}.health]\nalive_for = "100ms"\n'
        (self.root / "deploy.toml").write_text(text + more)

    def is_now(self, name: str, how: str) -> None:
        (self.dist / name).mkdir(exist_ok=True)
        (self.dist / name / "how").write_text(how)

    def turns(self) -> list[str]:
        return [" ".join(words[:2]) for words in self._turns()]

    def forget(self) -> None:
        (self.root / "turns").rename(self.root / f"turns-{len(list(self.root.glob('turns*')))}")

    def pids(self) -> dict[str, int]:
        """Who runs: the last of each name that went up, in all turns, as far as it lives."""
        files = [*sorted(self.root.glob("turns-*"), key=lambda path: int(path.name[6:])), self.root / "turns"]
        words = [line.split() for path in files if path.exists() for line in path.read_text().splitlines()]
        last = {name: int(pid) for name, what, pid in words if what == "up"}
        return {name: pid for name, pid in last.items() if alive(pid)}

    def _turns(self) -> list[list[str]]:
        path = self.root / "turns"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def _command(name: str) -> str:
    return COMMAND.format(python=sys.executable, name=name)


def services(facts: dict[str, Any]) -> dict[str, str]:
    """The state of each service, by `status`."""
    return {one["name"]: one["state"] for one in facts["services"]}


@contextmanager
def make_beside(root: Path) -> Iterator[BesideApp]:
    with make_app(root, BesideApp) as app:
        assert isinstance(app, BesideApp)
        shutil.copy(SERVICES / "beside_service.py", app.dist / "beside_service.py")
        for name in NAMES:
            app.is_now(name, "fine")
        app.beside()
        yield app
