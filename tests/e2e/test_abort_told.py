"""What an abort and a moved drain tell is true: of the right deploy, of what was lost, without secrets."""

from __future__ import annotations

import json
import sys

import pytest
from test_abort import at_step, draining, end, start_push

from app import App, wait_until
from victims import kill, rows, runners


def test_abort_is_aimed_at_the_deploy_under_way_and_at_nobody_who_waits(app: App) -> None:
    app.push()
    app.configure(build='artifact = "dist"\ncommand = "until test -e built; do sleep 0.05; done"')
    app.release("v2")
    building = app.start("push", "--json")
    wait_until(lambda: runners(app), what="the first one has the lock")
    app.release("v3")
    others = [app.start("push", "--json", "--no-build", "--wait-lock", "30s") for _ in range(2)]
    wait_until(lambda: len(app.status()["waiting"]) == 2, what="two wait")
    app.run("abort", check=0)
    (app.root / "built").touch()
    assert end(building).code == 1
    assert [end(other).code for other in others] == [0, 0]


def test_what_was_lost_is_told_after_an_abort_too(app: App) -> None:
    app.configure(drain='ceiling = "3s"')
    app.push()
    app.task(60.0)
    app.release("v2")
    pushing = start_push(app, "replace")
    wait_until(lambda: draining(app), what="it drains")
    aborted = app.run("abort")
    finished = end(pushing).event("drain.finished")
    assert (finished["verdict"], [task["name"] for task in finished["lost"]]) == ("killed", ["callClaude"])
    assert "a process had to be killed" in aborted.out


def test_what_was_lost_is_told_by_the_next_runner_of_an_app_that_answers_no_more(app: App) -> None:
    app.configure(drain='ceiling = "6s"')
    app.push()
    app.task(60.0)
    app.release("v2")
    pushing = start_push(app, "replace")
    seen = "SELECT 1 FROM journal WHERE step='drain' AND phase='seen'"
    wait_until(lambda: rows(app, seen), what="what it works on is on record")
    app.configure(drain='ceiling = "6s"', health='url = "http://127.0.0.1:1/health"')
    for pid in runners(app):
        kill(pid)
    finished = end(pushing).event("drain.finished")
    assert [task["name"] for task in finished["lost"]] == ["callClaude"]


@pytest.mark.full
def test_nobody_says_nothing_lost_of_a_killed_app_that_tells_nothing(app: App) -> None:
    app.configure(args=["--no-listen", "--on-term", "ignore"], health="", drain='ceiling = "1s"')
    app.push()
    app.release("v2")
    result = app.run("push", check=5)
    assert "what it was working on is not known" in result.out
    assert "nothing lost" not in result.out
    assert "not known" in app.run("explain").out


@pytest.mark.full
def test_extension_after_now_is_kept_when_the_last_call_ends(app: App) -> None:
    last_call = 'last_call_before = "60s"\nlast_call = "until test -e ' + f'{app.root}/saved; do sleep 0.05; done"'
    app.configure(drain=f'ceiling = "5m"\n{last_call}')
    app.push()
    client = app.task(100)
    app.release("v2")
    pushing = start_push(app, "replace")
    wait_until(lambda: draining(app), what="it drains")
    app.run("drain", "--now", check=0)
    app.run("drain", "--extend", "60s", check=0)
    (app.root / "saved").touch()
    wait_until(lambda: rows(app, "SELECT 1 FROM events WHERE event LIKE '%last_call.finished%'"), what="it has ended")
    app.finish()
    assert end(pushing).code == 0
    assert '"done"' in client.communicate(timeout=60)[0]


def test_drain_that_is_ended_names_who_did_it_and_no_ceiling(app: App) -> None:
    app.push()
    app.task(300.0)
    app.release("v2")
    pushing = app.start("push")
    wait_until(lambda: draining(app), what="it drains")
    app.run("drain", "--now", check=0)
    out = pushing.communicate(timeout=60)[0]
    assert "ended the drain" in out
    assert "at the ceiling" not in out


def test_abort_while_quiet_is_asked_for_is_heeded_at_once(app: App) -> None:
    app.push()
    old = app.get()
    app.configure(drain='quiet = ["sleep", "55"]')
    app.release("v2")
    pushing = start_push(app, "quiet")
    result = app.run("abort", check=0)
    assert result.seconds < 40
    assert end(pushing).code == 1
    assert app.get()["release"] == old["release"]


@pytest.mark.full
def test_abort_in_the_middle_of_a_big_file_frees_the_host(app: App) -> None:
    app.push()
    with (app.dist / "big").open("wb") as file:
        file.truncate(2_000_000_000)
    pushing = app.start("push", "--json")
    incoming = app.host / ".deployer" / "store" / "incoming"
    wait_until(lambda: any(file.stat().st_size for file in incoming.iterdir()), what="it is on its way")
    app.run("abort", "--json", check=0)
    assert end(pushing).code == 1
    assert runners(app) == []


@pytest.mark.full
def test_secret_on_a_command_line_is_not_kept_with_the_verdict(app: App) -> None:
    app.env["TOK"] = "s3cr3t-value"
    command = f"exec {sys.executable} -S service.py --port {app.port} --on-term ignore --version-text $TOK"
    app.configure(run=f'command = {json.dumps(command)}\nsecrets = ["TOK"]', drain='ceiling = "1s"')
    app.push()
    app.env["TOK"] = "another-value"
    app.release("v2")
    result = app.push(check=5)
    kept = (app.host / ".deployer" / "state.db").read_bytes() + (app.host / ".deployer" / "state.db-wal").read_bytes()
    assert "s3cr3t-value" not in result.out
    assert b"s3cr3t-value" not in kept


def test_absurd_extensions_are_refused(app: App) -> None:
    app.push()
    for odd in ("0s", "9" * 400 + "h", "9999999h"):
        assert app.run("drain", "--extend", odd).code == 2
    assert at_step(app, "nothing") is False
