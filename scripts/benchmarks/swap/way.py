"""A way to replace a running service, and what the apps of all ways have in common."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.processes import PATIENCE, ROOT

BOOT = 0.5
"""Seconds that each app sleeps before it listens: what the imports of an app of the usual size take."""
SLOW = 5.0
"""Seconds of a slow request. Some are in flight at every switch."""
BROKEN: dict[str, dict[str, str]] = {"cannot start": {"BROKEN": "exit"}, "never ready": {"BOOT": "86400"}}
"""Ways of a release to be broken, as variables of the app."""
READY_WITHIN = 5.0
"""Seconds that a tool which can be told so waits for a release that is never ready."""

Settings = dict[str, str]


class Missing(Exception):
    """A part of a way that is neither here nor could be installed; the reason."""


@dataclass(frozen=True)
class Told:
    """What a tool said of one replacement: how long it took until the old release had gone, its exit code, its witness."""

    seconds: float
    exit_code: int
    witness: dict[str, Any] | None = None


class Way(Protocol):
    """A service that runs at `url` and can be replaced. *settings* are variables of the app beyond those of `settings()`."""

    url: str

    def begin(self, release: str) -> None:
        """Start it, as its first release."""

    def replace(self, release: str, settings: Settings) -> Told:
        """Replace what runs; returns when the old processes have gone, or when the tool has given up."""


@dataclass(frozen=True)
class Choice:
    """A way under its name: how it is opened in a directory of its own, and what it can be shown with."""

    title: str
    open: Callable[[Path], AbstractContextManager[Way]]
    broken: tuple[str, ...] = ()
    ours: bool = False
    overlaps: bool = False


def settings(release: str, **more: str) -> Settings:
    """The variables of an app that is told its release by us and not by deployer."""
    return {"DEPLOYER_RELEASE": release, "BOOT": str(BOOT), **more}


def copy_app(language: str, to: Path) -> str:
    """Copy the app of *language* into the directory *to*; the name of its program."""
    to.mkdir(parents=True, exist_ok=True)
    suffix = {"python": "py", "node": "js"}[language]
    shutil.copy(ROOT / "tests" / "services" / f"overlap_app.{suffix}", to)
    shutil.copy(ROOT / "examples" / "lame_duck" / f"lame_duck.{suffix}", to)
    return f"overlap_app.{suffix}"


def who_answers(url: str, timeout: float = 5.0) -> str | None:
    """The release that answers, or None when nobody does as he should."""
    try:
        with urllib.request.urlopen(f"{url}/", timeout=timeout) as answer:
            return str(json.loads(answer.read())["release"])
    except (OSError, ValueError, KeyError, urllib.error.HTTPError):
        return None


def serves(url: str, release: str | None = None) -> Callable[[], bool]:
    """A condition to wait for: somebody answers, and where it is named, *release* does."""
    return lambda: who_answers(url) is not None if release is None else who_answers(url) == release


def alive(pid: int) -> bool:
    """Whether *pid* runs; a zombie has exited."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def await_gone(pids: set[int], within: float = PATIENCE) -> bool:
    """Wait until none of *pids* is alive; whether that came to be."""
    deadline = time.monotonic() + within
    while any(map(alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def children(pid: int) -> set[int]:
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
