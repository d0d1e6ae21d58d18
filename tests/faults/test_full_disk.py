"""
A disk that fills up, by bytes or by inodes, at any stage of a push: a clear end at once, the service runs, nothing is torn.

Until the old process is asked to stop it is left alone. From then on the push goes through to its end: what has to be written
down for that got its place on the disk before.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from disks import Disk, all_well, app_on_a_disk, looks_work, told_clearly
from points import Point

from app import App, Result, wait_until
from evidence import faults, running, untouched
from victims import keeper, rows

GATES = {"install": 'command = "touch installed"', "check": 'command = "test -e installed"', "drain": 'ceiling = "20s"'}
ENDS_WITHIN = 15.0
"""Seconds: a deploy that waits for its runner in vain takes twice as long."""


@pytest.mark.full
@pytest.mark.parametrize("kind", ["bytes", pytest.param("inodes", marks=pytest.mark.full)])
def test_disk_that_fills_up_before_the_old_process_is_asked_to_stop_costs_nothing(
    tmp_path: Path, engine: Path, kind: str
) -> None:
    with app_on_a_disk(tmp_path) as (app, disk):
        before = served(app, engine)
        command = json.dumps(disk.command(kind))
        fills = {
            "upload": {"build": f'artifact = "dist"\ncommand = {command}'},
            "stage": {},
            "install": {"install": f"command = {command}"},
            "check": {"check": f"command = {command}"},
        }
        for stage, tables in fills.items():
            app.configure(args=[], **{**GATES, **tables})
            result = push(app, disk, kind, stage if stage == "stage" else None)
            assert result.code in (6, 7), f"{stage}: {result.out}{result.err}"
            assert "No space left" in result.err, f"{stage}: {result.err}"
            told_clearly(result)
            untouched(app, before)
            disk.free()
        disk.fill(kind)
        looks_work(app)
        disk.free()
        app.configure(args=[], **GATES)
        app.push()
        all_well(app)


@pytest.mark.parametrize("kind", ["bytes", pytest.param("inodes", marks=pytest.mark.full)])
def test_disk_that_fills_up_during_the_swap_does_not_hold_it_up(tmp_path: Path, engine: Path, kind: str) -> None:
    with app_on_a_disk(tmp_path) as (app, disk):
        served(app, engine)
        for stage in ("replace", "drain", "start", "ready", "confirm", "prune"):
            before = running(app)
            app.configure(args=["--at-start", disk.command(kind)] if stage == "start" else [], **GATES)
            result = push(app, disk, kind, None if stage in ("drain", "start") else stage)
            assert result.code == 0, f"{stage}: {result.out}{result.err}{app.engine_log()}"
            assert running(app)["release"] == app.current() != before["release"], stage
            if stage == "drain":
                looks_work(app)
            all_well(app)
            disk.free()
            if stage == "replace":  # so that the next one fills the disk while it drains
                app.configure(args=["--at-stop", disk.command(kind)], **GATES)
                push(app, disk, kind)


@pytest.mark.parametrize("kind", ["bytes", pytest.param("inodes", marks=pytest.mark.full)])
def test_release_that_fills_the_disk_and_dies_is_replaced_by_the_old_one(
    tmp_path: Path, engine: Path, kind: str
) -> None:
    with app_on_a_disk(tmp_path) as (app, disk):
        before = served(app, engine)
        app.configure(args=["--at-start", f"{disk.command(kind)}; kill -9 $PPID"], **GATES)
        result = push(app, disk, kind)
        assert (result.code, result.event("push.finished")["status"]) == (1, "reverted"), result.err + app.engine_log()
        told_clearly(result)
        assert running(app)["release"] == before["release"]
        looks_work(app)
        all_well(app)
        disk.free()
        app.configure(args=[], **GATES)
        app.push()
        all_well(app)


def test_old_process_is_not_left_quiet_by_a_disk_that_fills_up_then(tmp_path: Path, engine: Path) -> None:
    with app_on_a_disk(tmp_path) as (app, disk):
        served(app, engine)
        app.configure(args=[], **GATES | {"drain": f"quiet = {json.dumps(disk.command('inodes'))}"})
        assert push(app, disk, "inodes").code == 0
        all_well(app)


def test_keeper_restarts_a_crashed_app_on_a_full_disk(tmp_path: Path, engine: Path) -> None:
    with app_on_a_disk(tmp_path) as (app, disk):
        before, same = served(app, engine), keeper(app)
        disk.fill("bytes")
        os.kill(before["pid"], 9)
        after = wait_until(lambda: (found := app.get())["pid"] != before["pid"] and found, what="the app is back")
        assert after["release"] == before["release"] and keeper(app) == same
        all_well(app)


def test_full_disk_keeps_nobody_from_stopping_and_starting_the_service(tmp_path: Path, engine: Path) -> None:
    with app_on_a_disk(tmp_path) as (app, disk):
        served(app, engine)
        disk.fill("bytes")
        app.run("restart", check=0)
        all_well(app)
        app.run("stop", check=0)
        assert not app.status()["instance"]
        disk.free()
        app.run("start", check=0)
        all_well(app)


def served(app: App, engine: Path) -> dict[str, Any]:
    """The first release of *app* serves, run by the *engine* whose writes are points."""
    app.env["PYTHONPATH"] = str(engine)
    app.configure(args=[], **GATES)
    app.push()
    return running(app)


def push(app: App, disk: Disk, kind: str, at: str | None = None) -> Result:
    """Push another release; the disk fills up when the step *at* has begun, or whenever the app or a gate does it."""
    app.release(os.urandom(8).hex())
    (app.dist / "more").write_bytes(os.urandom(200_000))
    known = len(rows(app, "SELECT id FROM deploys"))
    point = Point(app, "runner", f"{at} begin") if at else None
    pushing = app.start("push", "--json")
    if point:
        wait_until(lambda: point.reached or pushing.poll() is not None, what=f"{at} has begun")
        assert point.reached, pushing.communicate()
        disk.fill(kind)
        point.go_on()
    out, err = pushing.communicate(timeout=ENDS_WITHIN)
    result = Result(pushing.returncode, out, err, 0)
    assert faults(result) == []
    last = rows(app, "SELECT * FROM deploys ORDER BY started_at DESC")
    assert len(last) == known or last[0]["exit_code"] == result.code  # the record says what the client said
    return result
