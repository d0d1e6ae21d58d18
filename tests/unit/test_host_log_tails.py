"""The ends of the logs that belong to a deploy: whose lines they are, over rotations, without secrets; never in the way."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployer.host import log_tails, logs
from deployer.host.journal import Journal
from deployer.host.paths import HostPaths
from deployer.host.state import State


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    made = HostPaths(tmp_path)
    made.prepare_private()
    made.logs.mkdir()
    return made


def printed_by(state: State, paths: HostPaths, name: str, at: float, *lines: str, **more: Any) -> None:
    """*name* starts *at* and prints *lines*."""
    fields = {"release": f"r-{name}", "adopted": 0, **more}
    state.insert("instances", id=name, started_at=at, log_offset=logs.size(paths.app_log), state="running", **fields)
    with open(paths.app_log, "a") as log:
        log.writelines(f"{line}\n" for line in lines)


def test_each_gets_its_own_lines_and_the_last_ones(paths: HostPaths) -> None:
    state = State(paths.state)
    printed_by(state, paths, "old", 1.0, *(f"old {number}" for number in range(30)))
    printed_by(state, paths, "new", 2.0, "new")
    assert log_tails.printed(paths, state, "old") == [f"old {number}" for number in range(10, 30)]
    assert log_tails.printed(paths, state, "new") == ["new"]


def test_rotation_between_the_two_costs_no_line(paths: HostPaths) -> None:
    state = State(paths.state)
    printed_by(state, paths, "first", 1.0, "first")
    printed_by(state, paths, "old", 2.0, "before")
    logs.rotate(paths.app_log, max_bytes=1)
    with open(paths.app_log, "a") as log:
        log.write("b\n")
    printed_by(state, paths, "new", 3.0, "new")
    assert log_tails.printed(paths, state, "old") == ["before", "b"]


def test_nobody_else_s_lines_are_shown_for_an_adopted_or_an_unknown_process(paths: HostPaths) -> None:
    state = State(paths.state)
    printed_by(state, paths, "adopted", 1.0, "not its own", adopted=1)
    assert log_tails.printed(paths, state, "adopted") is None
    assert log_tails.printed(paths, state, "nobody") is None


def deploy(paths: HostPaths, state: State) -> Any:
    """A deploy that drained an adopted process and `old`, and started `new`."""
    request, verdicts = SimpleNamespace(instance="new"), [{"instance": name} for name in ("adopted", "old", "new")]
    journal = Journal(state, "d1", "local", lambda data: data)
    return SimpleNamespace(paths=paths, state=state, journal=journal, request=request, verdicts=verdicts)


def test_kept_tail_has_no_secret_of_its_own_release_and_stays_when_the_log_has_gone(paths: HostPaths) -> None:
    state = State(paths.state)
    paths.secrets_of("r-old").write_text(json.dumps({"TOKEN": "old-hush"}))
    printed_by(state, paths, "old", 1.0, "my token is old-hush", "x" * 1000)
    printed_by(state, paths, "new", 2.0, "hello")
    printed_by(state, paths, "adopted", 0.5, adopted=1)
    for _ in range(2):
        log_tails.keep(deploy(paths, state))
    paths.app_log.unlink()
    assert log_tails.kept(state, "d1") == {"old": ["my token is ***", "x" * log_tails.LONGEST_LINE], "new": ["hello"]}
    rows = state.rows("SELECT * FROM journal")
    assert len(rows) == 2 and "old-hush" not in str(rows)


def test_output_whose_secrets_are_damaged_is_not_kept_and_stops_nothing(
    paths: HostPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    state = State(paths.state)
    paths.secrets_of("r-old").write_text("{")
    printed_by(state, paths, "old", 1.0, "token")
    printed_by(state, paths, "new", 2.0, "hello")
    log_tails.keep(deploy(paths, state))
    assert log_tails.kept(state, "d1") == {"new": ["hello"]} and "was not kept" in capsys.readouterr().err


def test_engine_lines_of_the_time_of_the_deploy_with_their_tracebacks(paths: HostPaths) -> None:
    paths.engine_log.with_name("engine.log.1").write_text("1970-01-01T00:00:09Z keeper before\n  its traceback\n")
    paths.engine_log.write_text(
        "1970-01-01T00:00:10Z runner begins d1\nTraceback (most recent call last):\n"
        "1970-01-01T00:00:14Z keeper drained\n1970-01-01T00:00:30Z keeper later\n"
    )
    during = ["1970-01-01T00:00:10Z runner begins d1", "Traceback (most recent call last):"]
    drained = "1970-01-01T00:00:14Z keeper drained"
    assert log_tails.engine(paths, 10.4, 14.2) == [*during, drained]
    assert log_tails.engine(paths, 10.4, None) == [*during, drained, "1970-01-01T00:00:30Z keeper later"]
    assert log_tails.engine(HostPaths(paths.root / "nowhere"), 1.0, None) == []
