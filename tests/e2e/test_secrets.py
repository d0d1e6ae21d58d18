"""Secrets reach the app and nobody else: no log, event, journal, error, command line or readable file has them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from app import App, Result, wait_until
from evidence import command_lines_with, faults, files_with, running, untouched

VALUE = "s3cr3t-v4lue-one"
OTHER = "s3cr3t-v4lue-two"


def variables(app: App) -> dict[str, str]:
    """The environment of the running service."""
    raw = Path(f"/proc/{running(app)['pid']}/environ").read_bytes().split(b"\0")
    return dict(part.decode().split("=", 1) for part in raw if b"=" in part)


def with_secrets(app: App, *names: str, **tables: str) -> None:
    app.configure(run=f"secrets = {json.dumps(names)}", **tables)


def test_missing_secrets_are_all_named_and_nothing_is_touched(app: App) -> None:
    app.push()
    before = running(app)
    with_secrets(app, "FIRST_TOKEN", "SECOND_TOKEN", "THIRD_TOKEN")
    result = app.push(check=2, env={"SECOND_TOKEN": VALUE, "THIRD_TOKEN": ""})
    assert "FIRST_TOKEN" in result.err
    assert "THIRD_TOKEN" in result.err
    assert "SECOND_TOKEN" not in result.err
    assert result.event("push.finished")["exit_code"] == 2
    assert faults(result) == []
    untouched(app, before)


def test_secret_reaches_the_app_and_is_in_no_other_file_event_or_command_line(app: App) -> None:
    app.env["TOKEN"] = VALUE
    loud = "artifact = 'dist'\ncommand = 'echo $TOKEN; sleep 0.5'"
    with_secrets(app, "TOKEN", build=loud, install="command = 'echo installing with $TOKEN'")
    client = app.start("push", "--json", "-v")
    lines = []
    while client.poll() is None:
        lines += command_lines_with(VALUE)
    out, err = client.communicate()
    assert client.returncode == 0, out + err
    assert variables(app)["TOKEN"] == VALUE
    assert lines == []
    assert VALUE not in out + err
    assert "***" in Result(0, out, err, 0).event("build.output")["line"]
    assert files_with(app.host, VALUE) == []
    for command in ("status", "history", "releases", "doctor", "plan", "logs"):
        result = app.run(command, "--json")
        assert VALUE not in result.out + result.err
    secrets = app.host / ".deployer" / "secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    assert stat.S_IMODE((app.host / ".deployer").stat().st_mode) == 0o700


def test_secret_that_a_broken_release_prints_is_not_shown_by_the_revert(app: App) -> None:
    app.env["TOKEN"] = f"{VALUE}\n{OTHER}"  # of several lines, as a key is
    app.push()
    command = ["sh", "-c", 'echo "fatal: cannot log in with $TOKEN"; exit 3']
    app.release("v2")
    app.configure(run=f'command = {json.dumps(command)}\nsecrets = ["TOKEN"]')
    for result in (app.push(check=1), app.run("history", "--json")):
        assert VALUE not in result.out + result.err
        assert OTHER not in result.out + result.err
    # The app's own log is the app's own business; nothing of ours may repeat it.
    assert set(files_with(app.host, VALUE)) <= {"logs/app.log"}
    assert set(files_with(app.host, OTHER)) <= {"logs/app.log"}


def test_changed_secret_alone_makes_a_new_release_and_a_real_restart(app: App) -> None:
    with_secrets(app, "TOKEN")
    app.push(env={"TOKEN": VALUE})
    before = running(app)
    assert app.push(env={"TOKEN": VALUE}).event("push.finished")["status"] == "unchanged"
    result = app.push(env={"TOKEN": OTHER})  # within the same second or not: the id is another one
    assert result.event("push.finished")["status"] == "done"
    after = running(app)
    assert (after["release"] != before["release"], after["pid"] != before["pid"]) == (True, True)
    assert variables(app)["TOKEN"] == OTHER


def test_rollback_uses_the_secrets_that_were_kept_with_the_release(app: App) -> None:
    with_secrets(app, "TOKEN")
    first = app.push(env={"TOKEN": VALUE}).event("host.finished")["release"]
    app.push(env={"TOKEN": OTHER})
    app.run("rollback", "--json", check=0)
    assert running(app)["release"] == first
    assert variables(app)["TOKEN"] == VALUE


def test_crash_restart_keeps_the_secrets(app: App) -> None:
    with_secrets(app, "TOKEN")
    app.push(env={"TOKEN": VALUE})
    pid = running(app)["pid"]
    os.kill(pid, 9)
    wait_until(lambda: running(app)["pid"] != pid, what="the keeper starts it again")
    assert variables(app)["TOKEN"] == VALUE


def test_secrets_win_over_the_env_file_which_wins_over_run_env(app: App) -> None:
    (app.host / "shared").mkdir(parents=True)
    (app.host / "shared" / "app.env").write_text("A=file\nB=file\nC='quoted # value'\n")
    app.configure(run='env = { A = "env", D = "env" }\nenv_file = "app.env"\nsecrets = ["B"]')
    app.push(env={"B": VALUE})
    seen = variables(app)
    assert {name: seen[name] for name in "ABCD"} == {"A": "file", "B": VALUE, "C": "quoted # value", "D": "env"}


def test_client_environment_does_not_leak_into_the_app(app: App) -> None:
    app.push(env={"CI_JOB_TOKEN": VALUE, "LC_ALL": "C.UTF-8"})
    seen = variables(app)
    assert "CI_JOB_TOKEN" not in seen
    assert seen["LC_ALL"] == "C.UTF-8"
    assert files_with(app.host, VALUE) == []


def test_missing_or_malformed_env_file_is_refused_before_anything_is_stopped(app: App) -> None:
    path = app.host / "shared" / "app.env"
    path.parent.mkdir(parents=True)
    path.write_text("A=1\n")
    app.configure(run='env_file = "app.env"')
    app.push()
    before = running(app)
    path.write_text("A=1\nthis line has s3cr3t-words\n")
    app.release("v2")
    result = app.push(check=2)
    assert "line 2 of the env file" in result.err
    assert "s3cr3t-words" not in result.out + result.err
    path.unlink()
    for command in ("push", "restart"):
        assert f"the env file {path} is missing" in app.run(command, "--json", check=2).err
    assert (running(app)["pid"], app.current()) == (before["pid"], before["release"])
