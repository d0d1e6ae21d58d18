"""
A disk that gives up in the middle of a push (ext4 after an error: every write is refused, files that are open too), and its repair.

Nothing can be written down from then on. What serves goes on serving, the client is told how things stand, and once the disk is
repaired, with whatever was not on it lost, the next command brings the service back and the deploy to its end.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from disks import Broken, all_well, app_on_ext4, looks_work, told_clearly
from points import Point
from scenario import kill_quietly
from test_full_disk import served

from app import App, Result, wait_until
from evidence import faults, running
from victims import keepers, runners

BEFORE_THE_SWAP = ("stage", "replace")


@pytest.mark.full
def test_disk_that_gives_up_before_the_old_process_is_asked_to_stop_costs_nothing(tmp_path: Path, engine: Path) -> None:
    with app_on_ext4(tmp_path) as (app, disk):
        before = served(app, engine)
        for stage in BEFORE_THE_SWAP:
            result = push(app, disk, stage)
            assert result.code == 6, result.out + result.err
            told_clearly(result)
            assert (running(app)["pid"], app.lines("SIGNALS_FILE")) == (before["pid"], [])
            looks_work(app)
            second = app.push(check=6)
            assert "Read-only" in second.err or "I/O error" in second.err, second.err
            told_clearly(second)
            power_cut(app, disk)
            assert app.status()["instance"]["release"] == before["release"]
            app.run("start", "--wait-lock", "20s", check=0)
            all_well(app)
            before = running(app)


@pytest.mark.full
def test_service_that_cannot_be_started_again_for_its_disk_is_told_to_be_down_and_comes_back(
    tmp_path: Path, engine: Path
) -> None:
    with app_on_ext4(tmp_path) as (app, disk):
        served(app, engine)
        task = app.task(after=2)
        result = push(app, disk, "drain")
        assert '"done"' in task.communicate(timeout=60)[0]
        assert (result.code, result.event("push.finished")["status"]) == (8, "down"), result.out + result.err
        told_clearly(result)
        assert "THE SERVICE IS DOWN" in result.err
        looks_work(app)
        power_cut(app, disk)
        app.status()
        all_well(app)


@pytest.mark.full
def test_new_release_goes_on_serving_when_its_disk_gives_up(tmp_path: Path, engine: Path) -> None:
    with app_on_ext4(tmp_path) as (app, disk):
        before = served(app, engine)
        result = push(app, disk, "confirm")  # at "ready" the app may still be writing its first line, and die of it
        assert result.code == 130, result.out + result.err
        assert "state.db refused" in result.event("warning")["text"]
        told_clearly(result)
        serves = running(app)
        assert serves["release"] == app.current() != before["release"]
        looks_work(app)
        power_cut(app, disk)
        app.status()
        all_well(app)
        app.push()
        all_well(app)


def push(app: App, disk: Broken, at: str) -> Result:
    """Push another release; the disk gives up when the step *at* has begun, or once the old process was signalled (`drain`)."""
    app.release(os.urandom(8).hex())
    (app.dist / "more").write_bytes(os.urandom(200_000))
    point = None if at == "drain" else Point(app, "runner", f"{at} begin")
    pushing = app.start("push", "--json")
    wait_until(lambda: point.reached if point else app.lines("SIGNALS_FILE"), what=f"{at} has begun")
    disk.give_up()
    if point:
        point.go_on()
    out, err = pushing.communicate(timeout=50)
    result = Result(pushing.returncode, out, err, 0)
    assert faults(result) == []
    return result


def power_cut(app: App, disk: Broken) -> None:
    """Everything ends at once, and the disk is repaired before anything is started again."""
    for pid in [*keepers(app), *runners(app), *app.processes()]:
        kill_quietly(pid)
    wait_until(lambda: not app.processes(), what="everything has gone")
    disk.repair()
    for armed in (app.host / ".deployer").glob("armed-*"):  # what the journal of the file system has brought back
        armed.unlink()
