"""Overlap on an inherited socket: the new release serves beside the old one before that is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from test_engine_upgrade import newer

from app import App, alive, make_app, wait_until
from victims import rows, signals_to_mains

SOCKET = 'socket = "127.0.0.1:{port}"'


def overlap(app: App, run: str = "", **more: str) -> None:
    """Configure *app* for overlap on a held socket."""
    app.configure(run=SOCKET.format(port=app.port) + "\n" + run, **more)
    path = app.root / "deploy.toml"
    path.write_text('strategy = "overlap"\n' + path.read_text())


@pytest.fixture
def app(tmp_path: Path):
    with make_app(tmp_path) as made:
        overlap(made)
        yield made


def test_new_release_serves_before_the_old_one_is_asked_to_stop(app: App) -> None:
    app.push()
    old = app.get()["pid"]
    client = app.task(3)
    left = [app.host / ".deployer/run" / name for name in ("runner-gone.sock", "drain-gone.lock")]
    for path in left:  # by runners that were killed
        path.touch()
    app.release("v2")
    result = app.push()
    assert not any(path.exists() for path in left)
    assert json.loads(client.communicate(timeout=10)[0])["result"] == "done"
    names = result.names()
    assert names.index("ready") < names.index("switched") < names.index("drain.started") < names.index("drain.finished")
    assert result.event("drain.finished")["verdict"] == "clean" and result.event("drain.finished")["pid"] == old
    assert result.event("host.finished")["gap_ms"] == 0
    assert app.get()["release"] == app.current() == result.event("push.finished")["hosts"][0]["release"]
    assert [line[0] for line in app.lines("SIGNALS_FILE") if line[2] == str(old)] == ["SIGTERM"]
    assert not alive(old)
    told = app.run("explain", check=0).out
    assert "launch" in told and "retire" in told


def test_broken_release_takes_no_request_and_the_old_one_is_never_asked(app: App) -> None:
    app.push()
    old = app.get()["pid"]
    app.configure(
        run=SOCKET.format(port=app.port) + "\nrehearse = false",
        args=["--health", "error"],
        health='url = "http://127.0.0.1:{port}/health"\ninterval = "50ms"\nready_within = "2s"',
    )
    path = app.root / "deploy.toml"
    path.write_text('strategy = "overlap"\n' + path.read_text())
    app.release("v2")
    result = app.push(check=1)
    assert result.event("push.finished")["status"] == "reverted"
    assert "was not asked to stop" in result.event("host.finished")["error"]["state"]
    assert app.get()["pid"] == old
    assert str(old) not in [line[2] for line in app.lines("SIGNALS_FILE")]


def held(app: App, pid: int) -> Path:
    """A file for as long as which instance *pid* drains, where `held_open` configured it."""
    path = app.root / f"hold-{pid}"
    path.touch()
    return path


def held_open(app: App, run: str = "") -> None:
    stop = f"while [ -e {app.root}/hold-$PPID ]; do sleep 0.05; done"
    overlap(app, run=f"rehearse = false\n{run}", args=["--at-stop", stop])


def test_several_generations_drain_at_once_and_a_further_push_waits_for_the_oldest(app: App) -> None:
    held_open(app, "max_draining = 2")
    app.push()
    holds = []
    for number in (2, 3):
        holds.append(held(app, app.status()["instance"]["pid"]))
        app.release(f"v{number}")
        app.push("--detach", timeout=30)
    draining = [str(one["pid"]) for one in app.status()["draining"]]
    assert [hold.name for hold in holds] == [f"hold-{pid}" for pid in draining]
    app.release("v4")
    third = app.start("push", "--json")
    wait_until(lambda: (app.status()["under_way"] or {}).get("step") == "launch", what="the third push waits")
    assert len(app.status()["draining"]) == 2 and third.poll() is None
    holds[0].unlink()
    out, _ = third.communicate(timeout=60)
    assert third.returncode == 0 and "room.waiting" in out
    assert [str(one["pid"]) for one in app.status()["draining"]] == draining[1:]
    holds[1].unlink()
    wait_until(lambda: not app.status()["draining"] and app.status()["under_way"] is None, what="all have drained")
    deploys = app.run("history", "--json").events[0]["hosts"][0]["deploys"]
    assert [row["status"] for row in deploys] == ["done"] * 4


def test_crash_of_the_new_release_is_mended_while_the_old_one_still_drains(app: App) -> None:
    held_open(app)
    app.push()
    hold = held(app, app.status()["instance"]["pid"])
    app.release("v2")
    app.push("--detach")
    new = app.status()["instance"]["pid"]
    os.kill(new, signal.SIGKILL)
    wait_until(
        lambda: (app.status()["instance"] or {}).get("pid") not in (None, new),
        within=15,
        what="the new release is back",
    )
    assert len(app.status()["draining"]) == 1
    hold.unlink()
    wait_until(lambda: not app.status()["draining"], what="the old one has drained")


def building(app: App) -> Path:
    """A file for as long as which the next push builds."""
    path = app.root / "builds"
    path.touch()
    overlap(
        app, run="rehearse = false", build=f'artifact = "dist"\ncommand = "while [ -e {path} ]; do sleep 0.05; done"'
    )
    return path


@pytest.mark.full
def test_abort_means_the_push_that_is_prepared_while_an_older_one_drains(app: App) -> None:
    held_open(app)
    app.push()
    hold = held(app, app.status()["instance"]["pid"])
    app.release("v2")
    app.push("--detach")
    serving = app.status()["instance"]["release"]
    builds = building(app)
    app.release("v3")
    third = app.start("push", "--json")
    wait_until(lambda: (app.status()["under_way"] or {}).get("step") == "prepare", what="the third push builds")
    assert app.run("drain", "--extend", "5m").code == 0
    assert app.run("abort", "--json").code == 0
    builds.unlink()
    third.communicate(timeout=30)
    assert third.returncode == 1 and app.status()["instance"]["release"] == serving
    assert len(app.status()["draining"]) == 1
    hold.unlink()
    wait_until(lambda: app.status()["under_way"] is None, what="the second push has ended")


@pytest.mark.full
def test_newer_engine_keeps_every_generation_and_every_socket(app: App) -> None:
    run = f'socket = {{ http = "127.0.0.1:{app.port}", admin = "unix:admin.sock" }}'
    held_open(app)
    path = app.root / "deploy.toml"
    path.write_text(path.read_text().replace(SOCKET.format(port=app.port), run))
    app.push()
    pids = [app.get()["pid"]]
    holds = [held(app, pids[0])]
    app.release("v2")
    app.push("--detach")
    pids.append(app.status()["instance"]["pid"])
    holds.append(held(app, pids[1]))
    keeps = app.status()["keeper"]["pid"]
    before = Path(f"/proc/{keeps}/cmdline").read_bytes()
    app.release("v3")
    app.push("--detach", env=newer(app))
    assert app.status()["keeper"]["pid"] == keeps and Path(f"/proc/{keeps}/cmdline").read_bytes() != before
    assert [one["pid"] for one in app.status()["draining"]] == pids
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(app.host / "shared" / "admin.sock"))
    for hold in holds:
        hold.unlink()
    wait_until(lambda: app.status()["under_way"] is None, what="all have drained")
    assert signals_to_mains(app) == {str(pid): 1 for pid in pids}
    verdicts = [json.loads(row["verdict"]) for row in rows(app, "SELECT verdict FROM drains")]
    assert [(one["verdict"], one["exit_code"]) for one in verdicts] == [("clean", 0)] * 2
    assert [row["status"] for row in rows(app, "SELECT status FROM deploys")] == ["done"] * 3


@pytest.mark.full
def test_drain_that_is_ended_through_a_later_deploy_has_its_last_call(app: App) -> None:
    called = app.root / "called"
    drain = f'ceiling = "5m"\nlast_call = "touch {called}"\nlast_call_before = "4s"'
    stop = f"while [ -e {app.root}/hold-$PPID ]; do sleep 0.05; done"
    overlap(app, run="rehearse = false\nmax_draining = 1", args=["--at-stop", stop], drain=drain)
    app.push()
    old = app.get()["pid"]
    held(app, old)
    app.release("v2")
    app.push("--detach")
    app.release("v3")
    third = app.start("push", "--json", "--detach")
    wait_until(lambda: (app.status()["under_way"] or {}).get("step") == "launch", what="the third push waits")
    assert app.run("drain", "--now").code == 0
    wait_until(lambda: not alive(old), what="the old one has been ended")
    assert called.exists()
    third.communicate(timeout=60)
    assert third.returncode == 0
    wait_until(lambda: app.status()["under_way"] is None, what="all have drained")
    ended = rows(app, "SELECT event FROM events WHERE event LIKE '%drain.finished%' ORDER BY rowid")
    assert json.loads(ended[0]["event"])["ended_by"]
