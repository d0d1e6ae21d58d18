"""A deployer whose config and rollout are scripted: what it is asked is recorded, what is shown is real."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from deployer.cli.app import run
from deployer.errors import UsageError
from deployer.rollout.push import PushOptions

OLD, NEW = "20261120T101200Z-77aa01", "20261121T201500Z-9f3c1e"


@dataclass
class World:
    """What the fake rollout does (`script`, `shows`) and what it was asked (`calls`)."""

    events: list[dict[str, Any]] = field(default_factory=list)
    ends: Callable[[], int] = lambda: 0
    shows: dict[str, Any] = field(default_factory=dict)
    log: bytes = b""
    warnings: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("local", "production")
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def load(self, file: Path | None, target: str | None) -> Any:
        self.calls.append(("load", file, target))
        if target is not None and target not in self.targets:
            raise UsageError(f'no target "{target}"', hint="known targets: local, production")
        return SimpleNamespace(
            app="mini-agent", target_name=target or "local", hosts=("local",), warnings=self.warnings, ceiling=None
        )

    def with_ceiling(self, config: Any, seconds: float) -> Any:
        self.calls.append(("ceiling", seconds))
        return config

    def play(self, emit: Callable[[dict[str, Any]], None]) -> int:
        for event in self.events:
            emit(event)
        return self.ends()

    def logs(
        self, config: Any, lines: int, follow: bool, write: Callable[[str, bytes], None], missing: Any, service: Any
    ) -> int:
        self.calls.append(("logs", lines, follow))
        for start in range(0, len(self.log), 7):
            write("local", self.log[start : start + 7])
        return 0

    def asked(self, name: str) -> tuple[Any, ...]:
        return next(call for call in self.calls if call[0] == name)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> World:
        def recorded(name: str) -> Any:
            def call(config: Any, *rest: Any) -> int:
                *words, emit = rest
                self.calls.append((name, config.target_name, *words))
                return self.play(emit)

            return call

        def shown(name: str) -> Any:
            def call(config: Any, *rest: Any) -> Any:
                self.calls.append((name, config.target_name, *rest))
                return self.shows[name]

            return call

        modules: dict[str, dict[str, Any]] = {
            "deployer.config.load": {"load": self.load, "with_ceiling": self.with_ceiling},
            "deployer.rollout.push": {"PushOptions": PushOptions, "push": recorded("push")},
            "deployer.rollout.planning": {"plan": shown("plan")},
            "deployer.rollout.doctor": {"doctor": shown("doctor")},
            "deployer.rollout.commands": {name: recorded(name) for name in ("rollback", "lifecycle")},
            "deployer.rollout.attach": {"attach": recorded("attach")},
            "deployer.rollout.logs": {"logs": self.logs},
            "deployer.rollout.showing": {
                name: shown(name) for name in ("status", "releases", "history", "explain", "rollback_check")
            },
        }
        for name, members in modules.items():
            module = ModuleType(name)
            module.__dict__.update(members)
            monkeypatch.setitem(sys.modules, name, module)
        return self


def deployer(*argv: str) -> int:
    """The exit code of `deployer argv`."""
    with pytest.raises(SystemExit) as left:
        run(argv)
    code = left.value.code
    assert isinstance(code, int)
    return code


def event(name: str, at: float = 0.0, **fields: Any) -> dict[str, Any]:
    """An event of the deploy d1 on local, *at* seconds after eight in the evening."""
    minutes, seconds = divmod(at, 60)
    time = f"2026-11-21T20:{int(minutes):02d}:{seconds:06.3f}Z"
    return {"v": 1, "time": time, "deploy": "d1", "host": "local", "event": name, **fields}


def until_drain() -> list[dict[str, Any]]:
    """A push up to the moment at which the old process has been asked to stop."""
    return [
        event("push.started", app="mini-agent", target="local", release=None, kind="push", who="root"),
        event("build.output", 1, line="\x1b[32mcompiled\x1b[0m"),
        event("build.finished", 1.2, took_s=1.2),
        event("stage.finished", 1.3, files=212, bytes_total=3_100_000, bytes_sent=4096, took_s=0.1, release=NEW),
        event("check.finished", 1.8, took_s=0.5, release=NEW),
        event(
            "drain.started", 1.9, pid=8812, ceiling_s=660, command=["node", "api.js"], tasks=[task(252)], release=NEW
        ),
    ]


def task(age: float) -> dict[str, Any]:
    return {"id": "t1", "name": "callClaude", "started_at": "2026-11-21T19:59:00Z", "age_s": age}


def progress(elapsed: float, **fields: Any) -> dict[str, Any]:
    processes = [{"pid": 8812, "command": "node api.js"}, {"pid": 8813, "command": "claude -p"}]
    said = {"health": "shutting_down", "busy": True, "tasks": [task(252 + elapsed)], "processes": processes}
    return event(
        "drain.progress", 1.9 + elapsed, elapsed_s=elapsed, ceiling_s=660, heard=True, release=NEW, **said, **fields
    )


def clean_push() -> list[dict[str, Any]]:
    return [
        *until_drain(),
        progress(0.5),
        drained("clean", 271.0, exit_code=0, lost=[], killed=[]),
        event("switched", 273, release=NEW),
        event("start.finished", 273.1, pid=9120, release=NEW),
        event("ready", 273.9, probes=2, took_s=0.8, release=NEW),
        *ended(280, "done", 0, gap_ms=83.4),
    ]


def killed_push() -> list[dict[str, Any]]:
    return [
        *until_drain(),
        drained("killed", 660.0, exit_code=None, lost=[task(252)], killed=[{"pid": 8812, "command": "node"}]),
        event("start.finished", 662, pid=9120, release=NEW),
        event("ready", 663, probes=0, took_s=2.0, release=NEW),
        *ended(663, "done", 5, gap_ms=2100),
    ]


def reverted_push(error: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    tail = ["Error: \x1b]0;owned\x07no such table", "    at main (api.js:3)"]
    return [
        *until_drain(),
        drained("exited", 0.2, exit_code=3, lost=[], killed=[]),
        event("revert.started", 3, reason="the new process exited with code 1 after 0.3s", log_tail=tail, release=NEW),
        event("revert.finished", 4.2, release=OLD, ok=True),
        *ended(4.3, "reverted", 1, release=OLD, error=error),
    ]


def drained(verdict: str, waited: float, **fields: Any) -> dict[str, Any]:
    return event("drain.finished", 1.9 + waited, verdict=verdict, waited_s=waited, pid=8812, release=NEW, **fields)


def ended(at: float, status: str, code: int, release: str = NEW, gap_ms: float | None = None, error: Any = None) -> Any:
    hosts = [{"host": "local", "status": status, "release": release}]
    return [
        event("host.finished", at, status=status, gap_ms=gap_ms, release=release, exit_code=code, error=error),
        event("push.finished", at, status=status, exit_code=code, hosts=hosts),
    ]


def explained() -> dict[str, Any]:
    """What a host says of a push whose drain took 4m12s of 4m31s."""
    deploy = {"deploy": "20261121T201500Z-push-9f3c", "kind": "push", "status": "done", "exit_code": 0}
    times = {"started_at": "2026-11-21T20:15:00.000Z", "ended_at": "2026-11-21T20:19:31.000Z"}
    entries = [
        entry(0.0, "asked", "push by root@dev"),
        entry(1.3, "install", "", 12.0, "install: npm ci"),
        entry(13.3, "drain", "SIGTERM, ceiling 11m", 252.0, "pid 8812 (node api.js) to finish: callClaude (4m12s)"),
        entry(265.3, "verdict", "clean exit after 4m12s, nothing lost"),
        entry(266.0, "ready", "", 0.8, "2 good answers in a row from pid 9120"),
        {**entry(271.0, "end", "done, exit code 0"), "detail": ["first\x1b[2J", "second"]},
    ]
    parts = [{"what": "drain", "took_s": 252.0, "text": "waiting for the old process's work"}]
    return {
        "host": "local",
        "deploy": {**deploy, **times, "release": NEW, "previous": OLD, "who": "root@dev", "drains": []},
        "timeline": entries,
        "waits": {
            "total_s": 271.0,
            "parts": parts,
            "summary": "4m31s in all: 4m12s waiting for the old process's work",
        },
        "logs": {
            "old": ["SIGTERM \x1b]0;owned\x07received"],
            "new": [],
            "engine": ["2026-11-21T20:15:00Z runner begins"],
        },
    }


def entry(at: float, what: str, text: str, took: float | None = None, waited_for: str | None = None) -> dict[str, Any]:
    """An entry of a timeline."""
    stamp = {"time": "2026-11-21T20:15:00.000Z", "at_s": at, "what": what, "text": text}
    return {**stamp, "took_s": took, "waited_for": waited_for, "part": None, "so_far": False, "detail": []}
