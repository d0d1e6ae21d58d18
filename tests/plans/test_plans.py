"""Facts in, steps out: every JSON file beside this one is a case. `steps` are [name, a part of what is said] in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deployer.host.plan import Want, plan

CASES = sorted(Path(__file__).parent.glob("*.json"))

FACTS: dict[str, Any] = {
    "instance": None,
    "adopt": None,
    "desired": None,
    "draining": [],
    "current": None,
    "health": {"tasks": []},
}
SETTINGS: dict[str, Any] = {
    "run": {"command": ["node", "api.js"], "rehearse": False},
    "install": {"command": None, "timeout": 900.0},
    "check": {"command": None, "timeout": 60.0},
    "health": {"url": "http://127.0.0.1:3001/health", "streak": 2, "ready_within": 60.0, "alive_for": 2.0},
}
DRAIN: dict[str, Any] = {"signal": "SIGTERM", "ceiling": 660.0, "quiet": None, "wait_idle": None}


def want(case: dict[str, Any]) -> Want:
    asked = {"release": "r2", "release_hash": "def", "files": 12, "bytes_total": 3400, "drain": DRAIN, **case}
    return Want(**{**asked, "settings": {**SETTINGS, **case.get("settings", {})}})


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_plan(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    steps = plan({**FACTS, **case["facts"]}, want(case["want"]))
    assert [step.name for step in steps] == [name for name, _ in case["steps"]], case["about"]
    for step, (_, said) in zip(steps, case["steps"], strict=True):
        assert said in step.what


def test_unknown_kind_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no plan for 'dance'"):
        plan(FACTS, want({"kind": "dance"}))


def test_there_are_cases() -> None:
    assert len(CASES) >= 15
