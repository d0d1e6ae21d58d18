"""What the drains of the past say about the next one: who counts, how long, and when the ceiling is too close."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deployer.durations import usual
from deployer.host.drain_history import LOOKED_BACK, counted, expected, past, warning
from deployer.host.state import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state.db")


def drained(state: State, at: float, waited: float, verdict: str | None = "clean", **more: Any) -> None:
    """A drain asked for *at*, in a deploy of its own that began a moment before."""
    name = f"i{at}"
    fields = {"who": "root", "confirmed": 1, "started_at": at - 1, **more}
    state.replace("deploys", id=f"d{at}", kind="push", started_at=fields["started_at"], ended_at=at + waited)
    state.insert("instances", id=name, state="ended", confirmed=fields["confirmed"], created_at=at)
    told = None if verdict is None else json.dumps({"verdict": verdict, "waited_s": waited, "exit_code": 0})
    state.insert("drains", instance=name, deploy=f"d{at}", who=fields["who"], asked_at=at, ceiling=660, verdict=told)


def test_median_longest_and_last(state: State) -> None:
    for at, waited in ((10.0, 42.0), (20.0, 190.0), (30.0, 7.5)):
        drained(state, at, waited)
    found = past(state)
    assert found is not None
    assert (found["count"], found["median_s"], found["longest_s"], found["killed"]) == (3, 42.0, 190.0, 0)
    assert found["last"] == {"at": "1970-01-01T00:00:30.000Z", "waited_s": 7.5, "verdict": "clean"}
    assert found["text"] == "usually 42s, longest 3m10s (last 3 drains)"
    assert expected(found) == {"count": 3, "median_s": 42.0, "longest_s": 190.0, "at_least": False}


def test_nothing_is_said_without_a_history(state: State) -> None:
    drained(state, 1.0, 5.0, verdict=None)  # goes on
    assert past(state) is None and expected(None) is None and warning(None, 1.0) is None


@pytest.mark.parametrize(
    "odd",
    [{"who": "crash"}, {"confirmed": 0}, {"started_at": 21.0}],
    ids=["left by a crash", "of a release that never proved itself", "left by a crash, taken over by a deploy"],
)
def test_drain_in_which_nobody_waited_for_work_does_not_count(state: State, odd: dict[str, Any]) -> None:
    drained(state, 20.0, 600.0, **odd)
    assert past(state) is None
    drained(state, 10.0, 4.0)
    found = past(state)
    assert found is not None and (found["count"], found["longest_s"]) == (1, 4.0)
    assert found["text"] == "4s last time"


def test_killed_drain_counts_as_at_least_so_long(state: State) -> None:
    drained(state, 1.0, 660.2, "killed")
    drained(state, 2.0, 30.0, "exited")
    found = past(state)
    assert found is not None and (found["killed"], found["at_least"]) == (1, True)
    assert found["text"] == "usually 5m45s, longest more than 11m (last 2 drains)"


def test_only_the_newest_drains_count(state: State) -> None:
    drained(state, 1.0, 600.0)
    for number in range(LOOKED_BACK):
        drained(state, 10.0 + number, 2.0)
    found = past(state)
    assert found is not None and (found["count"], found["longest_s"]) == (LOOKED_BACK, 2.0)
    assert "i1.0" not in counted(state) and len(counted(state)) == LOOKED_BACK


@pytest.mark.parametrize(
    ("longest", "verdict", "ceiling", "said"),
    [
        (100.0, "clean", 126.0, None),
        (100.0, "clean", 125.0, "the ceiling of 2m05s is close to the longest drain seen, 1m40s"),
        (100.0, "clean", 30.0, "the ceiling of 30s is shorter than the longest drain seen, 1m40s"),
        (660.1, "killed", 660.0, "a drain was killed after 11m, and the ceiling is 11m: work may be lost again"),
        (660.1, "killed", 1200.0, None),
    ],
)
def test_warning_when_the_ceiling_leaves_no_room(
    state: State, longest: float, verdict: str, ceiling: float, said: str | None
) -> None:
    drained(state, 1.0, 3.0)
    drained(state, 2.0, longest, verdict)
    text = warning(past(state), ceiling)
    assert text is None if said is None else text is not None and text.startswith(f"{said}; raise drain.ceiling")


def test_what_happened_once_is_not_usual() -> None:
    assert usual(5, 5, 1) == "5s last time"
    assert usual(5, 5, 1, at_least=True) == "more than 5s last time"
    assert usual(5, 9, 2) == "usually 5s, longest 9s"
