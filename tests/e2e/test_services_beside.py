"""`[services.NAME]` with `push`: started before the app, stopped after it, kept over a push unless they have changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from app import alive, heard, read, wait_until
from beside import BesideApp, make_beside, services
from victims import keepers, kill, power_cut, rows, runners, unfinished

SCHEMA = Draft202012Validator(json.loads(files("deployer.cli").joinpath("events.schema.json").read_text("utf-8")))

FULL = pytest.mark.full


@pytest.fixture
def app(tmp_path: Path) -> Iterator[BesideApp]:
    with make_beside(tmp_path) as found:
        yield found


def test_life_of_services(app: BesideApp) -> None:
    first = app.push()
    assert app.turns() == ["cache up", "queue up", "app up"]
    before = app.pids()
    assert services(app.status()) == {"cache": "running", "queue": "running"}
    assert [event["service"] for event in first.events if event["event"] == "service.started"] == ["cache", "queue"]

    again = app.push()
    assert again.event("push.finished")["status"] == "unchanged" and app.pids() == before

    app.release("v2")
    second = app.push()
    assert app.pids() == {**before, "app": app.pids()["app"]} and app.pids()["app"] != before["app"]
    assert [event["service"] for event in second.events if event["event"] == "service.kept"] == ["cache", "queue"]
    for event in [*first.events, *second.events]:
        SCHEMA.validate(event)


def changed_by(app: BesideApp, check: int = 0) -> set[str]:
    """Whose process is another one after a push."""
    before = app.pids()
    app.push(check=check)
    after = app.pids()
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def kinds(app: BesideApp, release: str | None = None) -> dict[str, str]:
    """In which release each service runs."""
    return {one["name"]: one["release"] for one in app.status()["services"]}


def test_a_service_is_replaced_for_its_own_files_and_settings_only(app: BesideApp) -> None:
    app.push()
    old = app.current()
    app.is_now("queue", "fine still")  # a file of the release: the app is another one too
    assert changed_by(app) == {"queue", "app"}
    assert kinds(app) == {"cache": old, "queue": app.current()}
    app.forget()

    app.beside(cache='env = { SIZE = "2" }')  # the app is what it was
    shown = [step["what"] for step in app.run("plan", "--json", check=0).events[0]["hosts"][0]["steps"]]
    assert "replace cache (its settings changed); keep queue (unchanged)" in shown
    assert changed_by(app) == {"cache"} and app.turns() == ["cache down", "cache up"]
    facts = app.status()
    assert facts["current"] == app.current() != facts["instance"]["release"]
    assert app.push().event("push.finished")["status"] == "unchanged" and app.turns() == ["cache down", "cache up"]

    back = app.run("rollback", "--json", check=0)  # to the settings of before, and the app is what it was again
    assert back.event("push.finished")["hosts"][0]["release"] == facts["instance"]["release"] == app.current()
    assert app.turns() == ["cache down", "cache up"] * 2


def test_service_that_is_not_ready_costs_nothing(app: BesideApp) -> None:
    app.beside(run='secrets = ["TOKEN"]')
    app.env["TOKEN"] = "t0p-secret"
    app.push()
    before, old = app.pids(), app.current()
    app.forget()
    app.is_now("cache", "fine still")
    app.is_now("queue", "breaks")
    result = app.push(check=7)
    error = result.event("host.finished")["error"]
    assert (
        "service queue did not become ready" in error["title"] and "ValueError: queue: no model file" in error["cause"]
    )
    # cache had been replaced already: both are what they were, the app was never asked
    assert app.turns() == ["cache down", "cache up", "queue down", "queue up", "queue up", "cache down", "cache up"]
    assert app.pids()["app"] == before["app"] and app.current() == old and set(kinds(app).values()) == {old}
    assert services(app.status()) == {"cache": "running", "queue": "running"}
    for event in result.events:
        SCHEMA.validate(event)
    assert [event["service"] for event in result.events if event.get("back")] == ["queue", "cache"]
    app.is_now("queue", "fine")
    app.is_now("cache", "breaks")
    told = app.push(check=7)
    assert "cannot open its file" in told.out and "t0p-secret" not in told.out + told.err


def test_service_without_a_program_is_found_before_anything_is_stopped(app: BesideApp) -> None:
    app.push()
    before = app.pids()
    path = app.root / "deploy.toml"
    path.write_text(
        path.read_text().replace(
            "[services.queue]\nclass", "[services.other]\ncommand = ['none-such']\n[services.queue]\nclass"
        )
    )
    app.is_now("cache", "another")
    error = app.push(check=7).event("host.finished")["error"]
    assert "service other" in error["title"] and "none-such" in error["title"] and app.pids() == before


@pytest.mark.parametrize("strategy", [pytest.param("restart", marks=FULL), "overlap"])
def test_services_go_back_with_the_app(app: BesideApp, strategy: str) -> None:
    run = f'socket = "127.0.0.1:{app.port}"\nrehearse = false'
    app.beside(strategy=strategy, run=run if strategy == "overlap" else "")
    app.push()
    before, old = app.pids(), app.current()
    app.is_now("cache", "fine still")
    app.is_now("app", "breaks")
    app.forget()
    app.push(check=1)
    assert kinds(app) == {"cache": old, "queue": old} and app.current() == old
    assert app.pids()["queue"] == before["queue"] and app.pids()["cache"] != before["cache"]
    turns = app.turns()
    assert [turn for turn in turns if turn != "app up" and turn != "app down"] == ["cache down", "cache up"] * 2
    assert turns.index("app up") > turns.index("cache up")  # the new app came after its service
    if strategy == "overlap":
        assert alive(before["app"])
    else:
        assert turns[-1] == "app up"  # the old one after the old service


@pytest.mark.full
def test_first_push_that_fails_leaves_no_service(app: BesideApp) -> None:
    app.is_now("app", "breaks")
    app.push(check=8)
    assert not app.pids() and app.status()["services"] == []


def test_service_that_is_taken_out_is_stopped_once_the_app_serves(app: BesideApp) -> None:
    app.push()
    before = app.pids()
    app.forget()
    app.beside(queue=None)
    app.release("v2")
    app.push()
    assert app.turns() == ["app down", "app up", "queue down"] and services(app.status()) == {"cache": "running"}
    app.forget()
    app.beside(cache=None, queue=None)
    result = app.push()
    assert app.turns() == ["cache down"] and "cache" not in app.pids() and app.pids()["app"] != before["app"]
    stopped = result.event("service.stopped")
    assert stopped["cleanup_completed"] and stopped["initialized"] and stopped["verdict"] in ("clean", "exited")


def test_service_goes_once_the_old_generation_has_drained(app: BesideApp) -> None:
    overlap = {"strategy": "overlap", "run": f'socket = "127.0.0.1:{app.port}"\nrehearse = false'}
    app.beside(**overlap)
    app.is_now("app", "slow")
    app.push()
    app.forget()
    app.beside(queue=None, **overlap)
    app.is_now("app", "fine")
    pushing = app.start("push", "--json")
    said = heard(pushing, "room.waiting")
    assert "may need a service" in said and alive(app.pids()["queue"])
    (app.root / "go").touch()
    out, err = pushing.communicate(timeout=60)
    assert pushing.returncode == 0 and '"drain.finished"' in out, f"{said}{out}\n{err}"
    assert app.turns() == ["app up", "app down", "queue down"]


@pytest.mark.full
def test_order_of_stop_and_start(app: BesideApp) -> None:
    app.push()
    app.forget()
    app.run("restart", check=0)
    assert app.turns() == ["app down", "app up"]
    app.forget()
    app.run("stop", check=0)
    assert app.turns() == ["app down", "queue down", "cache down"] and not app.pids()
    wait_until(lambda: not app.processes(), what="the keepers have gone")
    app.forget()
    app.run("start", check=0)
    assert app.turns() == ["cache up", "queue up", "app up"] and services(app.status()) == {
        "cache": "running",
        "queue": "running",
    }


def service_keepers(app: BesideApp) -> list[int]:
    """The keepers of the services."""
    mark = f"{app.host}/services/".encode()
    commands = {pid: read(f"/proc/{pid}/cmdline") for pid in app.processes()}
    return [pid for pid, argv in commands.items() if b"keeper" in argv.split(b"\0") and mark in argv]


def test_service_that_crashes_is_started_again_by_its_keeper(app: BesideApp) -> None:
    app.is_now("cache", "dies")
    app.push()
    before = app.pids()
    (app.root / "die").touch()
    wait_until(lambda: app.pids().get("cache", before["cache"]) != before["cache"], what="another cache")
    assert app.turns() == ["cache up", "queue up", "app up", "cache up"]
    after = app.pids()
    assert after["app"] == before["app"] and after["queue"] == before["queue"]
    # Nobody looks after it any more, and it dies: whoever asks next sees to it.
    for pid in service_keepers(app):
        kill(pid)
    kill(after["cache"])
    assert services(app.status())["cache"] in ("running", "crashed")
    wait_until(lambda: app.pids().get("cache", after["cache"]) != after["cache"], what="yet another cache")


def test_push_starts_a_service_that_was_given_up(app: BesideApp) -> None:
    app.push()
    before, release = app.pids(), app.current()
    for pid in [*service_keepers(app), before["cache"]]:
        kill(pid)
    result = app.push()
    assert result.event("push.finished")["status"] == "done" and app.current() == release
    assert app.pids() == {**before, "cache": app.pids()["cache"]} and app.turns()[-1] == "cache up"
    assert [one["event"] for one in result.events if one["event"] in ("stage.finished", "switched")] == []


@pytest.mark.parametrize(
    "who", ["runner", pytest.param("keepers", marks=pytest.mark.full), pytest.param("all", marks=pytest.mark.full)]
)
def test_whoever_dies_while_a_service_is_replaced(app: BesideApp, who: str) -> None:
    app.is_now("cache", "slow")
    app.push()
    before, old = app.pids(), app.current()
    app.is_now("cache", "fine")
    app.forget()
    pushing = app.start("push", "--json")
    wait_until(
        lambda: [one for one in app.status()["services"] if one["state"] == "draining"], what="the old cache drains"
    )
    victims = {"runner": runners(app), "keepers": [*keepers(app), *service_keepers(app)]}
    for pid in [pid for found in victims.values() for pid in found] if who == "all" else victims[who]:
        kill(pid)
    (app.root / "go").touch()
    pushing.communicate(timeout=60)
    wait_until(lambda: app.run("status", check=0) and not unfinished(app), what="the deploy has ended")
    wait_until(lambda: set(services(app.status()).values()) == {"running"}, what="all services run")
    assert kinds(app) == {"cache": app.current(), "queue": old} and app.turns()[0] == "cache down"
    assert (app.current() == old) is (pushing.returncode != 0) and app.pids()["queue"] == before["queue"]
    assert (app.pids()["app"] == before["app"]) is (app.current() == old)


@pytest.mark.full
def test_abort_while_a_service_drains(app: BesideApp) -> None:
    app.is_now("cache", "slow")
    app.push()
    before, old = app.pids(), app.current()
    app.is_now("cache", "fine")
    pushing = app.start("push", "--json")
    wait_until(
        lambda: [one for one in app.status()["services"] if one["state"] == "draining"], what="the old cache drains"
    )
    aborting = app.start("abort")
    wait_until(lambda: rows(app, "SELECT 1 FROM journal WHERE step='abort'"), what="the abort is on record")
    (app.root / "go").touch()
    out, err = pushing.communicate(timeout=60)
    aborting.communicate(timeout=60)
    assert pushing.returncode == 1 and aborting.returncode == 0, f"{out}\n{err}"
    assert app.pids() == {**before, "cache": app.pids()["cache"]} and kinds(app)["cache"] == old == app.current()


@pytest.mark.full
def test_prune_spares_what_services_run_in(app: BesideApp) -> None:
    path = app.root / "deploy.toml"
    path.write_text(path.read_text().replace("[target.local]", "[target.local]\nkeep = 1"))
    app.push()
    first = app.current()
    assert first is not None
    for number in range(4):
        app.release(f"more {number}")
        app.push()
    here = {path.name for path in (app.host / "releases").iterdir()}
    assert first in here and len(here) <= 4 and kinds(app) == {"cache": first, "queue": first}


@pytest.mark.full
def test_reboot_brings_the_services_back_first(app: BesideApp) -> None:
    app.push()
    app.forget()
    power_cut(app, *service_keepers(app))
    for home in (app.host / "services").iterdir():
        another_boot(home)
    app.run("status", check=0)
    wait_until(lambda: len(app.turns()) == 3, what="all run again")
    facts = app.status()
    assert services(facts) == {"cache": "running", "queue": "running"}
    assert max(one["started_at"] for one in facts["services"]) <= facts["instance"]["started_at"]


def another_boot(home: Path) -> None:
    with sqlite3.connect(home / ".deployer" / "state.db", timeout=10) as database:
        database.execute("UPDATE instances SET boot='another' WHERE boot IS NOT NULL")
    database.close()


@pytest.mark.full
def test_log_of_a_service(app: BesideApp) -> None:
    app.is_now("cache", "breaks")
    app.push(check=7)
    shown = app.run("logs", "--service", "cache", check=0).out
    assert "cache: cannot open its file" in shown and app.run("logs", check=0).out == ""


def test_systemd_and_services_are_refused(app: BesideApp) -> None:
    path = app.root / "deploy.toml"
    path.write_text(path.read_text().replace("[target.local]", '[target.local]\nsupervisor = "systemd-user"'))
    result = app.push(check=2)
    assert "[services] beside [run] under another supervisor" in result.err and not app.turns()
