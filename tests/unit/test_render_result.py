"""The last lines of a deploy, for each way in which it can end."""

from __future__ import annotations

from typing import Any

import pytest

from deployer.cli.render.course import Course, is_result
from deployer.cli.render.lines import Layout
from deployer.cli.render.result import result_lines

STARTED = "2026-11-21T20:00:00Z"


def result(status: str, hosts: list[tuple[str, str, str | None]], kind: str = "push", code: int = 0) -> list[str]:
    listed = [{"host": host, "status": how, "release": release} for host, how, release in hosts]
    event: dict[str, Any] = {"event": f"{kind}.finished", "time": "2026-11-21T20:00:02Z", "status": status}
    course = Course("production", kind, STARTED, gaps=[12.0, 83.0])
    return result_lines({**event, "exit_code": code, "hosts": listed}, course, Layout())


def test_many_hosts_are_counted_and_the_longest_gap_counts() -> None:
    hosts: list[tuple[str, str, str | None]] = [("web-1", "done", "r2"), ("web-2", "done", "r2")]
    assert result("done", hosts) == ["done   2/2 hosts on r2 in 2s · gap 83 ms", "next   deployer rollback production"]


@pytest.mark.parametrize(
    ("kind", "status", "how", "shown"),
    [
        ("push", "unchanged", "unchanged", "done   a already on r2, nothing to do"),
        ("rollback", "failed", "failed", "fail   rollback failed · a on r2"),
        ("push", "reverted", "reverted", "fail   a back on r2"),
        ("push", "down", "down", "down   a not running: no release would start"),
        ("stop", "done", "done", "done   a stopped in 2s"),
        ("stop", "unchanged", "unchanged", "done   a already stopped, nothing to do"),
        ("restart", "done", "done", "done   a restarted on r2 in 2s · gap 83 ms"),
    ],
)
def test_each_end_says_how_things_stand(kind: str, status: str, how: str, shown: str) -> None:
    assert result(status, [("a", how, "r2")], kind) == [shown]


def test_partial_lists_every_host() -> None:
    shown = result("partial", [("a", "done", "r2"), ("b", "failed", None)], code=4)
    assert shown == ["fail   hosts differ: a done on r2, b failed on no release"]


def test_failure_before_any_host_is_told_without_one() -> None:
    assert result("failed", [], code=7) == ["fail   push failed"]


def test_what_the_witness_saw_stands_in_the_first_line_and_each_bad_phase_below_it() -> None:
    good = {"probes": 1200, "failed": 0, "skipped": 0, "kinds": {}, "longest_gap_ms": 101.0, "slowest_ms": 4.0}
    bad = {**good, "probes": 4, "failed": 3, "kinds": {"refused": 2, "reset": 1}, "longest_gap_ms": 410.0}
    seen = {**good, "probes": 1204, "phases": {"prepare": good, "start": bad}}
    event = {"event": "push.finished", "time": "2026-11-21T20:00:02Z", "status": "done", "exit_code": 0, "kind": "push"}
    event["hosts"] = [{"host": "a", "status": "done", "release": "r2"}]
    course = Course("production", "push", STARTED, gaps=[83.0])
    first, *more = result_lines({**event, "witness": {**seen, "phases": {}}}, course, Layout())
    assert first == "done   a on r2 in 2s · gap 83 ms · 0 of 1,204 probes failed"
    assert more == ["next   deployer rollback production"]
    first, start, _ = result_lines({**event, "witness": {**seen, "failed": 3}}, course, Layout())
    assert first.endswith("· 3 of 1,204 probes failed")
    assert start == "seen   start: 3 of 4 probes failed (2 refused, 1 reset) · longest gap 410 ms"


def test_start_as_a_step_is_no_result() -> None:
    assert not is_result({"event": "start.finished", "pid": 9120})
    assert is_result({"event": "start.finished", "status": "done", "exit_code": 0, "hosts": []})
