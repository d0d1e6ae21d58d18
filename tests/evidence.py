"""What tests look at beside the service itself: a directory as a value, leaked secrets, events against the schema."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from app import SOURCE, App, Result, alive, read

SCHEMA = Draft202012Validator(json.loads((SOURCE / "deployer" / "cli" / "events.schema.json").read_text("utf-8")))


def tree(root: Path) -> dict[str, str]:
    """Every path below *root* with its kind, mode and content, without SQLite's side files: reading makes them."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not name.endswith(("-wal", "-shm")) and not path.is_socket():
            found[name] = _described(path)
    return found


def _described(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    mode = oct(path.stat().st_mode)
    return mode if path.is_dir() else f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def files_with(root: Path, value: str) -> list[str]:
    """The files below *root* that hold *value*, but for .deployer/secrets, where it belongs."""
    needle = value.encode()
    return [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and "secrets" not in path.parts and needle in path.read_bytes()
    ]


def command_lines_with(value: str) -> list[bytes]:
    """The command lines of this machine that hold *value*."""
    lines = (read(f"/proc/{name}/cmdline") for name in os.listdir("/proc") if name.isdigit())
    return [line for line in lines if value.encode() in line]


def faults(result: Result) -> list[str]:
    """What is wrong with the stdout of a --json command: lines that are no JSON, or that the schema refuses."""
    found = []
    for line in result.out.splitlines():
        try:
            found += [f"{error.message[:200]}: {line[:200]}" for error in SCHEMA.iter_errors(json.loads(line))]
        except ValueError:
            found.append(f"not JSON: {line[:200]}")
    return found


def signals(app: App) -> list[str]:
    """The names of the signals that main processes of the service have seen, in order."""
    return [line[0] for line in app.lines("SIGNALS_FILE") if line[1] == "main"]


def running(app: App) -> dict[str, Any]:
    """What the service says of itself, proven to be a living process of ours."""
    health = app.get()
    assert alive(health["pid"])
    return health


def untouched(app: App, before: dict[str, Any], but: Iterable[str] = ()) -> None:
    """Assert that the process of *before* (its /health) serves on, unsignalled, with no half release beside its own."""
    assert (running(app)["pid"], app.current()) == (before["pid"], before["release"])
    assert signals(app) == list(but)
    listed = app.run("releases", "--json", check=0).events[0]["hosts"][0]["releases"]
    assert sorted(os.listdir(app.host / "releases")) == sorted(release["id"] for release in listed)
