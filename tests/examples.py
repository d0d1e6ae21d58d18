"""One of examples/, deployed as its deploy.toml says; ours are the ports, the target, and where the packages are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app import App, free_port

EXAMPLES = Path(__file__).parent.parent / "examples"
PYTHON = ".venv/bin/python"


class Example(App):
    """The app of one directory, which is the artifact; the target lies in it, left out."""

    @property
    def dist(self) -> Path:
        return self.root

    def settle(self, name: str, env: dict[str, str]) -> None:
        """Copy the files. Fetching packages for each release would be most of the test: they are those of this environment."""
        config = (EXAMPLES / name / "deploy.toml").read_text()
        (found,) = set(re.findall(r"127\.0\.0\.1:(\d+)", config))
        for file in (EXAMPLES / name).iterdir():
            (self.root / file.name).write_text(file.read_text().replace(found, str(self.port)))
        variables = json.dumps({"PYTHONPATH": "vendor", **env}).replace('": ', '" = ')
        config = config[: config.index("[target.local]")].replace(found, str(self.port))
        config = _replaced(r"^exclude  = \[", 'exclude = ["/host/", ', config)
        config = config.replace(PYTHON, sys.executable).replace('["python3", ', f'["{sys.executable}", ')
        config = re.sub(r"^command .*scripts/vendor.*\n", "", config, flags=re.MULTILINE)
        config = re.sub(r"^env .*\n", "", config, flags=re.MULTILINE)
        subprocess.run([EXAMPLES.parent / "scripts" / "vendor", self.root / "vendor"], check=True)
        config = re.sub(r"^\[install\]\ncommand = .*\n", "", config, flags=re.MULTILINE)
        config = _replaced(r"^\[run\]$", f"[run]\nenv = {variables}", config)
        (self.root / "deploy.toml").write_text(f'{config}\n[target.local]\npath = "{self.host}"\n')
        self.release("v1")


@contextmanager
def example(root: Path, name: str, **env: str) -> Iterator[Example]:
    """The app of examples/*name*, not pushed yet, with *env* in its [run]; ended at the end."""
    app = Example(root, free_port())
    app.settle(name, env)
    try:
        yield app
    finally:
        app.close()


def _replaced(pattern: str, by: str, text: str) -> str:
    replaced, times = re.subn(pattern, lambda _: by, text, flags=re.MULTILINE)
    assert times == 1, f"{pattern} stands {times} times in:\n{text}"
    return replaced
