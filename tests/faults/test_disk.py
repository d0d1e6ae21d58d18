"""A disk that is full, read-only or damaged, and a machine that was started again: named, and the service goes on."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import App, make_app, wait_until
from victims import instance_of, keeper, keepers, kill, power_cut, rows, runners, signals_to_mains, unfinished

MEGABYTE = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[App]:
    """An app whose host path is a disk of its own with 48 MB."""
    disk = tmp_path / "host"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        with make_app(tmp_path) as app:
            yield app
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def database(app: App) -> Path:
    return app.host / ".deployer" / "state.db"


def change(app: App, sql: str) -> None:
    with sqlite3.connect(database(app), timeout=10) as connection:
        connection.execute(sql)


def test_release_that_does_not_fit_is_refused_and_the_old_one_serves(small_disk: App) -> None:
    app = small_disk
    app.push()
    pid = app.get()["pid"]
    (app.dist / "large").write_bytes(os.urandom(40 * MEGABYTE))
    result = app.push(check=6)
    assert "space" in result.err
    (app.dist / "large").unlink()
    app.release("v2")
    assert app.get()["pid"] == pid
    app.push()
    assert app.get()["release"] == app.current()


def test_disk_that_fills_up_during_the_upload_costs_nothing(small_disk: App) -> None:
    app = small_disk
    app.push()
    pid = app.get()["pid"]
    app.configure(args=[], build=f'command = "head -c 100M /dev/zero > {app.host}/filler; true"\nartifact = "dist"')
    (app.dist / "new").write_bytes(os.urandom(MEGABYTE))
    result = app.push(check=None)
    assert result.code in (6, 7) and "No space left" in result.err + result.out
    assert app.get()["pid"] == pid and app.lines("SIGNALS_FILE") == []
    (app.host / "filler").unlink()
    app.configure(args=[])
    app.push()
    assert app.get()["release"] == app.current() and app.get()["pid"] != pid


@pytest.mark.full
def test_disk_that_fills_up_during_the_install_costs_nothing(small_disk: App) -> None:
    app = small_disk
    app.push()
    pid, release = app.get()["pid"], app.current()
    app.configure(args=[], install='command = "head -c 100M /dev/zero > filler"')
    result = app.push(check=None)
    assert result.code in (6, 7), result.out + result.err
    assert app.get()["pid"] == pid and app.current() == release and app.lines("SIGNALS_FILE") == []
    assert unfinished(app) == []
    app.configure(args=[])
    app.release("v2")
    app.push()


def test_keeper_survives_a_full_disk_and_restarts_the_app_once_there_is_room(small_disk: App) -> None:
    app = small_disk
    app.push()
    pid, same = app.get()["pid"], keeper(app)
    filler = app.host / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * MEGABYTE)
        except OSError:
            pass
    kill(pid)
    filler.unlink()
    assert wait_until(lambda: app.get(), what="the app is back")["pid"] != pid
    assert keepers(app) == [same]


def test_read_only_path_is_named_before_anything_is_done(small_disk: App) -> None:
    app = small_disk
    subprocess.run(["mount", "-o", "remount,ro", str(app.host)], check=True)
    try:
        result = app.push(check=6)
        assert str(app.host) in result.err and app.lines("STARTS_FILE") == []
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(app.host)], check=True)


@pytest.mark.full
def test_damaged_record_is_named_and_nothing_is_touched(app: App) -> None:
    app.push()
    pid = app.get()["pid"]
    kill(keeper(app))
    kept = database(app).read_bytes()
    for name in ("state.db-wal", "state.db-shm"):
        database(app).with_name(name).unlink(missing_ok=True)
    database(app).write_bytes(b"garbage" * 5000)
    app.release("v2")
    for command in ("push", "restart", "stop"):
        result = app.run(command, check=6)
        assert "state.db" in result.err and "Traceback" not in result.err
    status = app.run("status", "--json", check=0)
    assert "state.db" in status.out
    assert app.get()["pid"] == pid and app.lines("SIGNALS_FILE") == []
    assert database(app).read_bytes() == b"garbage" * 5000 != kept


def test_record_of_a_newer_deployer_is_named_and_nothing_is_touched(app: App) -> None:
    app.push()
    pid = app.get()["pid"]
    change(app, "PRAGMA user_version=99")
    app.release("v2")
    assert "newer deployer" in app.push(check=6).err
    assert app.get()["pid"] == pid and app.lines("SIGNALS_FILE") == []
    change(app, "PRAGMA user_version=1")
    app.push()


def test_torn_secrets_file_is_named_and_the_next_push_heals_it(app: App) -> None:
    app.configure(run='secrets = ["TOKEN"]', args=[])
    app.env["TOKEN"] = "hush-hush"
    app.push()
    pid = app.get()["pid"]
    file = app.host / ".deployer" / "secrets" / f"{app.current()}.json"
    file.write_text('{"TOKEN": "hu')
    kill(pid)
    wait_until(lambda: "could not start" in app.engine_log(), what="the keeper says why")
    assert str(file) in app.engine_log() and "hush" not in app.engine_log()
    app.release("v2")
    app.push()
    assert app.get()["pid"] != pid


@pytest.mark.full
def test_after_a_reboot_status_starts_the_current_release_again(app: App) -> None:
    app.push()
    app.release("v2")
    app.push()
    release, instance = app.current(), instance_of(app.get()["pid"])
    power_cut(app)
    status = app.status()
    assert status["instance"]["release"] == release
    assert instance_of(wait_until(lambda: app.get(), what="it serves")["pid"]) != instance
    assert keeper(app)


def test_after_a_reboot_a_failed_release_is_not_started_again(app: App) -> None:
    app.push()
    release = app.current()
    app.configure(args=["--exit-at-once", "3"])
    app.release("v2")
    app.push(check=1)
    starts = len(app.lines("STARTS_FILE"))
    power_cut(app)
    assert app.status()["instance"]["release"] == release
    assert wait_until(lambda: app.get(), what="it serves")["release"] == release
    assert len(app.lines("STARTS_FILE")) == starts + 1


def test_stopped_service_stays_stopped_after_a_reboot(app: App) -> None:
    app.push()
    app.run("stop", check=0)
    power_cut(app)
    assert app.status()["instance"] is None
    assert len(app.lines("STARTS_FILE")) == 1


def test_push_that_a_reboot_cut_off_is_brought_to_an_end(app: App) -> None:
    app.push()
    app.task(30).kill()
    app.release("v2")
    pushing = app.start("push")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="the drain")
    power_cut(app, pushing.pid, *runners(app))
    pushing.communicate()
    app.status()
    wait_until(lambda: not unfinished(app), what="the deploy is ended")
    assert wait_until(lambda: app.get(), what="it serves")["release"] == app.current()
    last = rows(app, "SELECT * FROM deploys ORDER BY started_at DESC LIMIT 1")[0]
    assert (last["status"], last["release"]) == ("done", app.current())
    assert max(signals_to_mains(app).values()) == 1
