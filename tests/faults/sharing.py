"""An app that overlaps on a held socket and says which signals it got, and the small constant load that must lose nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app import SERVICES, App, free_port, wait_until
from load import Load
from overlapping import EXAMPLES

RATE = 40
"""Requests a second, each over a connection of its own."""
PATIENCE = 10
"""Seconds until a request counts as lost: everybody is killed on two cores, and slow is not lost."""
PARTS = (SERVICES / "noting_app.py", SERVICES / "overlap_app.py", EXAMPLES / "lame_duck.py")


class Sharing(App):
    """An App whose releases serve side by side: noting_app, with `strategy = "overlap"`."""

    def configure(
        self, run: str = "", args: list[str] | None = None, health: str | None = None, more: str = "", **tables: str
    ) -> None:
        command = [sys.executable, "-S", "noting_app.py", *(args or [])]
        noted = {name: str(self.root / f"{name.lower()}.txt") for name in ("SIGNALS_FILE", "STARTS_FILE")}
        env = ", ".join(f"{name} = {json.dumps(value)}" for name, value in {**noted, "LINGER": "0.1"}.items())
        lines = [
            f"command = {json.dumps(command)}",
            f"env = {{ {env} }}",
            f'socket = "127.0.0.1:{self.port}"',
            "rehearse = false",
        ]
        super().configure("\n".join([*lines, run]), args, health, more, **tables)
        path = self.root / "deploy.toml"
        path.write_text(f'strategy = "overlap"\n{path.read_text()}')

    def task(self, seconds: float, name: str = "callClaude") -> subprocess.Popen[str]:
        code = (
            f"import urllib.request as u; u.urlopen('{self.url}/slow?seconds={seconds}', timeout=600).read(); "
            "print('\"done\"')"
        )
        client = subprocess.Popen(
            [sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: self.get().get("busy"), what="the task is in flight")
        return client

    @contextmanager
    def under_load(self) -> Iterator[list[str]]:
        """Within it somebody asks all the time; afterwards the list says what was lost."""
        lost: list[str] = []
        with Load(f"{self.url}/", rate=RATE, fresh_share=1, timeout=PATIENCE) as load:
            yield lost
            figures = load.stop()
        if figures.lost:
            lost.append(f"of {figures.sent} requests {figures.losses} were lost: {figures.examples[:3]}")


@contextmanager
def make_sharing(root: Path) -> Iterator[Sharing]:
    """An app that has not been pushed yet; ended at the end."""
    app = Sharing(root, free_port())
    app.dist.mkdir(parents=True)
    for part in PARTS:
        shutil.copy(part, app.dist)
    app.release("v1")
    try:
        yield app
    finally:
        app.close()
