"""Who ended a drain is told by the deploy whose drain it was, whichever deploy was asked for it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from deployer.host.drain_story import _ended_by
from deployer.host.state import State


@pytest.mark.parametrize(("instance", "who"), [("old", "ada"), ("older", "ada"), ("longer", None), ("new", None)])
def test_drain_that_was_ended_through_another_deploy_says_by_whom(
    tmp_path: Path, instance: str, who: str | None
) -> None:
    state = State(tmp_path / "state.db")
    moved = [("old", True), ("older", True), ("longer", True), ("longer", False)]
    for seq, (name, now) in enumerate(moved, 1):
        data = json.dumps({"instance": name, "now": now, "who": "ada"})
        state.insert("journal", deploy="d2", seq=seq, step="drain", phase="moved", data=data, at=float(seq))
    assert _ended_by(SimpleNamespace(state=state), instance) == who  # type: ignore[arg-type]
