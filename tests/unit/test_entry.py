"""The `deployer` command, before any command of it runs."""

from __future__ import annotations

import json
import subprocess
import sys
import types

import pytest

from deployer import __version__, entry

HEAVY = {"typer", "click", "rich", "httpx", "httpcore", "pydantic", "tenacity", "pathspec", "paramiko", "deployer.cli"}


def modules_after(*arguments: str) -> set[str]:
    """The modules that `deployer ARGUMENTS` has imported when it ends."""
    script = (
        "import sys, json; sys.argv = ['deployer', *json.loads(sys.argv[1])]; from deployer.entry import main; main();"
        "print(json.dumps(sorted(sys.modules)))"
    )
    command = [sys.executable, "-c", script, json.dumps(arguments)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return set(json.loads(output.splitlines()[-1]))


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_answered_without_importing_what_it_does_not_need(option: str) -> None:
    assert modules_after(option) & HEAVY == set()


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_python_dash_m_deployer_is_the_command(option: str) -> None:
    command = [sys.executable, "-m", "deployer", option]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"deployer {__version__}\n", "")


def test_everything_else_goes_to_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    app = types.ModuleType("deployer.cli.app")
    app.main = lambda: seen.append(sys.argv[1:])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "deployer.cli.app", app)

    for arguments in (["push", "--version"], ["status"], []):
        monkeypatch.setattr(sys, "argv", ["deployer", *arguments])
        entry.main()

    assert seen == [["push", "--version"], ["status"], []]
