"""What the witness says of a real push is what happened: the gap that was measured, and what an independent load saw."""

from __future__ import annotations

from typing import Any

import pytest

from app import App
from load import Load

RATE = 20
PROBES = 3
"""Probe intervals by which two observers of one outage may differ, on top of what a busy machine adds."""
BUSY_MS = 400.0


@pytest.fixture
def slow_to_boot(app: App) -> App:
    """Down for a second and more whenever it is replaced: it binds its port by itself."""
    app.configure(args=["--boot", "1.2"], more=f'\n[target.local.verify]\nurl = "{app.url}/"\nrate = {RATE}\n')
    return app


def seen_in(event: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = event["witness"]
    return found


def test_first_push_of_what_did_not_run_has_no_failed_probes(slow_to_boot: App) -> None:
    seen = slow_to_boot.push().event("push.finished").get("witness")
    assert seen is None or seen["failed"] == 0


def test_gap_of_a_restart_is_the_one_that_was_measured_and_the_one_that_a_load_saw(slow_to_boot: App) -> None:
    app = slow_to_boot
    app.push()
    app.release("v2")
    with Load(app.url, rate=100, kept=4) as load:
        result = app.push()
        figures = load.stop()
    seen, gap = seen_in(result.event("push.finished")), result.event("host.finished")["gap_ms"]
    tolerance = PROBES * 1000 / RATE + BUSY_MS
    assert seen["failed"] > 0 and "refused" in seen["kinds"] and figures.losses["refused"] > 0
    assert abs(seen["longest_gap_ms"] - gap) < tolerance
    assert abs(seen["longest_gap_ms"] - figures.longest_stall_ms) < tolerance
    assert sum(phase["failed"] for phase in seen["phases"].values()) == seen["failed"]
    assert seen["phases"]["start"]["failed"] > 0


@pytest.mark.full
def test_restart_and_rollback_have_a_witness_too(slow_to_boot: App) -> None:
    app = slow_to_boot
    app.push()
    assert seen_in(app.run("restart", "--json", check=0).event("restart.finished"))["failed"] > 0
    app.release("v2")
    app.push()
    assert seen_in(app.run("rollback", "--json", check=0).event("push.finished"))["failed"] > 0
    assert "witness" not in app.run("stop", "--json", check=0).event("stop.finished")
    assert "witness" not in app.run("start", "--json", check=0).event("start.finished")


def test_unchanged_push_reports_nothing(slow_to_boot: App) -> None:
    slow_to_boot.push()
    done = slow_to_boot.push().event("push.finished")
    assert done["status"] == "unchanged" and "witness" not in done


def test_held_socket_loses_no_probe_and_the_human_line_says_so(app: App) -> None:
    app.configure(run=f'socket = "127.0.0.1:{app.port}"', args=["--boot", "0.8"])  # health.url is asked
    app.push()
    app.release("v2")
    shown = app.run("push", check=0).out
    done = next(line for line in shown.splitlines() if line.startswith("done"))
    assert " · 0 of " in done and done.endswith(" probes failed")
    assert not [line for line in shown.splitlines() if line.startswith("seen")]


@pytest.mark.full
def test_failed_probes_are_told_by_phase(slow_to_boot: App) -> None:
    slow_to_boot.push()
    slow_to_boot.release("v2")
    shown = slow_to_boot.run("push", check=0).out.splitlines()
    told = [line for line in shown if line.startswith("seen")]
    assert told and any("refused" in line and "longest gap" in line for line in told), shown


def test_service_that_has_no_url_has_no_witness(app: App) -> None:
    app.configure(args=[], health="")
    app.push()
    app.release("v2")
    assert "witness" not in app.push().event("push.finished")
