"""The engine runs on every Python that a host may have, from 3.9 on: a whole push with a task in flight on each one here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import app as harness
from app import App

# The client starts the engine with the interpreter below its own environment; here that is another one.
CLIENT = "import sys; sys._base_executable = sys.argv.pop(1); sys.argv[0] = 'deployer'; from deployer.entry import main; main()"


def find(version: str) -> str | None:
    """An interpreter of *version* that runs: on the PATH, or one of pyenv's."""
    found = [
        shutil.which(f"python{version}"),
        *sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))),
    ]
    root = os.environ.get("PYENV_ROOT", "/root/.pyenv")
    found += sorted(map(str, Path(root).glob(f"versions/{version}.*/bin/python3")))
    for python in filter(None, found):
        told = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], capture_output=True, text=True
        )
        if told.stdout.strip() == version:
            return python
    return None


@pytest.mark.parametrize("version", ["3.9", pytest.param("3.13", marks=pytest.mark.full)])
def test_whole_push_runs_on_this_python(app: App, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    python = find(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    monkeypatch.setattr(harness, "command", lambda *args: [sys.executable, "-c", CLIENT, python, *args])
    app.push()
    assert app.status()["python"].startswith(f"{version}.")
    client = app.task(after=1)
    app.release("v2")
    result = app.push()
    assert json.loads(client.communicate(timeout=60)[0])["result"] == "done"
    assert result.event("drain.finished")["verdict"] == "clean"
    assert app.get()["release"] == app.current()
    app.configure(args=["--exit-at-once", "3"])
    assert app.push(check=1).event("push.finished")["status"] == "reverted"
