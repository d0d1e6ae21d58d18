"""An app that overlaps on an inherited socket, or on two ports, in Python or Node: deployed by the real `deployer`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app import SERVICES, App, free_port

EXAMPLES = Path(__file__).parent.parent / "examples" / "lame_duck"
PROGRAMS = {"python": "overlap_app.py", "node": "overlap_app.js"}
DUCKS = {"python": "lame_duck.py", "node": "lame_duck.js"}


class Overlapping(App):
    """An App whose artifact is overlap_app: `write` is its deploy.toml, `broken` the next release's way to fail."""

    language = "python"

    def write(
        self,
        run: str | None = None,
        strategy: str = "overlap",
        env: dict[str, str] | None = None,
        health: str = "",
        target: str = "",
        more: str = "",
    ) -> None:
        """*run* are lines of [run] (default: a held socket), *health* of [health], *target* of [target.local]."""
        program = PROGRAMS[self.language]
        command = [sys.executable, "-S", program] if self.language == "python" else ["node", program]
        lines = [f'socket = "127.0.0.1:{self.port}"'] if run is None else [run]
        settings = {"LINGER": "0.3", **(env or {})}
        text = f"""
            app = "t-app"
            strategy = "{strategy}"
            [build]
            artifact = "dist"
            [run]
            command = {json.dumps(command)}
            env = {{ {", ".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())} }}
            {lines[0]}
            [health]
            url = "http://127.0.0.1:{{port}}/health"
            interval = "50ms"
            {health}
            [target.local]
            path = "{self.host}"
            {target}
            {more}
        """
        (self.root / "deploy.toml").write_text("\n".join(line.strip() for line in text.splitlines()))

    def broken(self, how: str) -> None:
        """The next release fails in this way (BROKEN of overlap_app)."""
        self.write(env={"BROKEN": how}, health='ready_within = "2s"\ntimeout = "500ms"')


@contextmanager
def overlapping(
    root: Path, language: str = "python", kind: Callable[[Path, int], Overlapping] = Overlapping
) -> Iterator[Overlapping]:
    """An app that has not been pushed yet; ended at the end."""
    app = kind(root, free_port())
    app.language = language
    app.dist.mkdir(parents=True)
    shutil.copy(SERVICES / PROGRAMS[language], app.dist)
    shutil.copy(EXAMPLES / DUCKS[language], app.dist)
    app.release("v1")
    app.write()
    try:
        yield app
    finally:
        app.close()
