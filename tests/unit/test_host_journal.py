"""A deploy's journal: every event once and in order, for followers early and late, over the death of a runner."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from app import wait_until
from deployer.errors import PreflightError
from deployer.host.journal import Journal, events
from deployer.host.state import State


def journal(path: Path) -> Journal:
    return Journal(State(path / "state.db"), "d1", "local", lambda data: data)


def follow(of: Journal, since: int = 0) -> tuple[list[dict[str, Any]], threading.Thread]:
    got: list[dict[str, Any]] = []
    thread = threading.Thread(target=of.follow, args=(since, lambda event: got.append(event) or True), daemon=True)
    thread.start()
    return got, thread


def test_every_follower_gets_every_event_once_and_in_order(tmp_path: Path) -> None:
    made = journal(tmp_path)
    made.event("one")
    early, first = follow(made)
    made.event("two")
    late, second = follow(made, since=1)
    made.event("three")
    made.close()
    first.join(60)
    second.join(60)
    assert [event["event"] for event in early] == ["one", "two", "three"]
    assert [event["event"] for event in late] == ["two", "three"]


def test_progress_is_shown_and_not_kept(tmp_path: Path) -> None:
    made = journal(tmp_path)
    got, thread = follow(made)
    made.progress("drain.progress", elapsed_s=1)
    wait_until(lambda: got, what="the progress")
    made.close()
    thread.join(60)
    assert [event["event"] for event in got] == ["drain.progress"]
    assert events(State(tmp_path / "state.db"), "d1") == []


def test_next_runner_goes_on_with_the_numbers_and_knows_what_was_told_and_done(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.begin("replace")
    first.event("drain.started", pid=1)
    second = journal(tmp_path)
    assert second.has("replace", "begin") and not second.has("replace", "done")
    assert [event["pid"] for event in second.told("drain.started")] == [1]
    second.done("replace", why="x")
    second.event("resumed")
    assert second.data("replace", "done") == {"why": "x"}
    assert [event["seq"] for event in second.told("drain.started") + second.told("resumed")] == [1, 2]


def test_last_event_and_the_end_on_record_are_one(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    state.insert("deploys", id="d1", kind="push", started_at=1.0)
    made = Journal(
        state, "d1", "local", lambda data: {name: "***" if name == "secret" else data[name] for name in data}
    )
    made.end("host.finished", status="done", exit_code=0, secret="hush")
    row = state.row("SELECT * FROM deploys")
    assert row is not None and row["ended_at"] and (row["status"], row["exit_code"]) == ("done", 0)
    assert "hush" not in str(row) + str(events(state, "d1"))


def test_last_event_is_told_to_nobody_when_it_could_not_be_kept(tmp_path: Path) -> None:
    made = journal(tmp_path)
    got, thread = follow(made)
    State(tmp_path / "state.db").execute("DROP TABLE events")
    with pytest.raises(PreflightError, match="events"):
        made.end("host.finished", status="done", exit_code=0)
    made.close()
    thread.join(60)
    assert got == []


def test_last_progress_reaches_a_follower_that_was_one_event_behind(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    journal = Journal(state, "d1", "local", lambda data: data)
    journal.event("first")
    got: list[str] = []

    def send(event: dict[str, Any]) -> bool:
        got.append(event["event"])
        if event["event"] == "first":
            journal.event("drain.finished")
            journal.progress("host.finished")
            journal.close()
        return True

    journal.follow(0, send)
    assert got == ["first", "drain.finished", "host.finished"]
    state.close()
