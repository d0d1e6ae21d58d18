"""Old records go, and nothing that anybody still needs goes with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployer.host import drain_history
from deployer.host.pruning import RECORDS_KEPT, prune_records
from deployer.host.state import State

VERDICT = json.dumps({"verdict": "clean", "waited_s": 1.0})


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state.db")


def pushed(state: State, number: int, ended: bool = True, drained: bool = True, release: str | None = None) -> None:
    """Deploy d*number*, which drained i*number-1* and started i*number*."""
    deploy, now = f"d{number}", float(number)
    state.insert(
        "deploys", id=deploy, kind="push", started_at=now, ended_at=now + 0.5 if ended else None, status="done",
        release=release or f"r{number}",
    )  # fmt: skip
    state.insert("journal", deploy=deploy, seq=1, step="stage", phase="begin", data="{}", at=now)
    state.insert("events", deploy=deploy, seq=1, event="{}")
    state.insert("instances", id=f"i{number}", deploy=deploy, state="ended", confirmed=1, created_at=now)
    if drained and number > 0:
        old = f"i{number - 1}"
        state.insert("drains", instance=old, deploy=deploy, who="root", asked_at=now + 0.1, verdict=VERDICT)
        state.insert("signals", instance=old, pid=1, start=1, signal="SIGTERM", intended_at=now)


def ids(state: State, table: str, column: str = "deploy") -> set[str]:
    return {row["name"] for row in state.rows(f"SELECT {column} AS name FROM {table}")}


def test_records_beyond_the_newest_go_with_all_that_belongs_to_them(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_history, "LOOKED_BACK", 2)
    for number in range(10):
        pushed(state, number)
    pushed(state, 10, ended=False)
    prune_records(state, kept=4)
    kept = {f"d{number}" for number in (6, 7, 8, 9, 10)}
    for table in ("events", "journal", "drains"):
        assert ids(state, table) == kept
    assert ids(state, "deploys", "id") == kept
    # i5 was drained by d6: its pid and its command belong to what d6 tells.
    drained = {f"i{number}" for number in (5, 6, 7, 8, 9)}
    assert ids(state, "instances", "id") == drained | {"i10"}
    assert ids(state, "signals", "instance") == drained


def test_drains_that_tell_what_to_expect_stay_with_their_instances(state: State) -> None:
    for number in range(10):
        pushed(state, number, drained=number <= 5)
    before = drain_history.past(state)
    prune_records(state, kept=2)
    assert drain_history.past(state) == before and before is not None and before["count"] == 5
    assert ids(state, "journal") == {"d8", "d9"}


def test_living_wanted_and_last_proven_instances_stay_however_old(state: State) -> None:
    for number in range(10):
        pushed(state, number, drained=False)
    state.update("instances", "i1", state="running")
    state.update("instances", "i2", state="draining")
    state.update("instances", "i3", state="promised")
    state.set_meta("desired", "i4")
    for number in (7, 8, 9):
        state.update("instances", f"i{number}", confirmed=0)
    prune_records(state, kept=1)
    assert ids(state, "instances", "id") == {"i1", "i2", "i3", "i4", "i6", "i9"}


def test_last_good_deploy_of_a_release_that_is_here_stays_for_the_rollback(state: State) -> None:
    for number in range(10):
        pushed(state, number, drained=False, release="here" if number in (1, 3) else None)
    state.insert("releases", id="here", state="good")
    prune_records(state, kept=1)
    assert ids(state, "deploys", "id") == {"d3", "d9"}


def test_crash_loop_under_one_deploy_does_not_grow_for_ever(state: State) -> None:
    pushed(state, 0)
    for number in range(20):
        state.insert("instances", id=f"c{number}", deploy="d0", state="ended", confirmed=1, created_at=100.0 + number)
        state.insert("drains", instance=f"c{number}", deploy="d0", who="crash", asked_at=100.0, verdict=VERDICT)
    prune_records(state, kept=5)
    left = {f"c{number}" for number in range(15, 20)}
    assert (ids(state, "instances", "id"), ids(state, "drains", "instance")) == (left, left)
    assert ids(state, "journal") == {"d0"}


def test_nothing_goes_before_there_is_too_much(state: State) -> None:
    for number in range(30):
        pushed(state, number)
    prune_records(state)
    assert len(ids(state, "journal")) == 30 <= RECORDS_KEPT
    assert len(ids(state, "instances", "id")) == 30
