"""The other commands: whom they ask, what they show, where a global option may stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import NEW, OLD, World, deployer, event, task

Capture = pytest.CaptureFixture[str]

FACTS: dict[str, Any] = {
    "current": NEW,
    "instance": {
        "release": NEW,
        "pid": 9120,
        "uptime_s": 14700,
        "state": "serving",
        "command": ["node", "api.js"],
        "processes": [{"pid": 9120, "command": "node api.js"}, {"pid": 9121, "command": "claude\x1b[2J -p"}],
    },
    "health": {"health": "ok", "busy": True, "tasks": [task(252)]},
    "draining": [{"release": OLD, "pid": 8812, "uptime_s": 60}],
    "under_way": {"deploy": "d1", "kind": "push", "who": "root@dev", "since": "2026-11-21T20:00:00Z", "step": "drain"},
    "problems": [{"title": "the disk is nearly full", "cause": None, "hint": "prune"}],
}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World().install(monkeypatch)


def test_status_shows_what_runs_and_how_to_follow_a_deploy(world: World, capsys: Capture) -> None:
    world.shows["status"] = {"hosts": [{"host": "local", "facts": FACTS, "error": None}]}
    assert deployer("status") == 0
    lines = capsys.readouterr().out.splitlines()
    deploy = lines.pop(6)
    assert deploy.startswith("  deploy    push d1 by root@dev · since ")
    assert deploy.endswith(" · at drain")
    assert lines == [
        "local",
        f"  release   {NEW}",
        "  process   pid 9120 node api.js · up 4h05m",
        "            pid 9121 claude -p",
        "  health    ok",
        "  work      1 task: callClaude 4m12s",
        f"  draining  {OLD} · pid 8812 · up 1m",
        "  problem   the disk is nearly full",
        "            hint: prune",
        "",
        "hint: deployer attach local",
    ]


def test_status_is_0_for_a_host_that_cannot_be_asked(world: World, capsys: Capture) -> None:
    error = {"title": "web1 could not be reached", "cause": "timed out", "hint": None}
    world.shows["status"] = {"hosts": [{"host": "web1", "facts": None, "error": error}]}
    assert deployer("status") == 0
    assert "  error     web1 could not be reached\n            cause: timed out\n" in capsys.readouterr().out


def test_status_of_a_host_without_anything(world: World, capsys: Capture) -> None:
    world.shows["status"] = {"hosts": [{"host": "local", "facts": {"exists": False, "problems": []}, "error": None}]}
    assert deployer("status") == 0
    assert "process   not running" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["status", "releases", "history", "explain", "doctor", "plan"])
def test_showing_under_json_is_one_object_with_the_name_of_the_command(
    world: World, capsys: Capture, name: str
) -> None:
    world.shows[name] = {"hosts": [], "checks": [], "exit_code": 0}
    assert deployer(name, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    shown = json.loads(line)
    assert (shown["v"], shown["event"], shown["hosts"]) == (1, name, [])
    assert shown["time"].endswith("Z")


@pytest.mark.parametrize("name", ["status", "releases", "logs", "stop", "attach"])
def test_config_error_is_2_for_every_command(world: World, capsys: Capture, name: str) -> None:
    assert deployer(name, "nowhere") == 2
    assert capsys.readouterr().err.startswith('error: no target "nowhere"\n')


def test_releases_mark_the_one_in_use(world: World, capsys: Capture) -> None:
    one = {"id": NEW, "state": "active", "created_at": "2026-11-21T20:15:00Z", "current": True, "bytes": 3_100_000}
    world.shows["releases"] = {"hosts": [{"host": "local", "releases": [{**one, "files": 212}]}]}
    assert deployer("releases") == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["RELEASE", "CREATED", "FILES", "SIZE", "STATE"]
    assert row.split() == ["*", NEW, "2026-11-21", "20:15:00", "212", "3.1", "MB", "active"]


def test_history_tells_how_each_drain_ended(world: World, capsys: Capture) -> None:
    deploy = {"deploy": "d1", "kind": "push", "status": "done", "exit_code": 5, "release": NEW, "who": "root"}
    times = {"started_at": "2026-11-21T20:00:00Z", "ended_at": "2026-11-21T20:11:03Z"}
    world.shows["history"] = {
        "hosts": [{"host": "local", "deploys": [{**deploy, **times, "verdict": "killed", "waited_s": 660.0}]}]
    }
    assert deployer("history") == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert "done    5     11m03s  killed 11m  root" in row


def test_doctor_marks_each_check_and_exits_as_told(world: World, capsys: Capture) -> None:
    checks = [
        {"host": "local", "check": "python", "ok": True, "detail": "3.11.7", "hint": "unused"},
        {"host": "local", "check": "port", "ok": False, "detail": "3001 is held by pid 7", "hint": "stop pid 7"},
        {"host": "local", "check": "health", "ok": None, "detail": "no answer", "hint": None},
    ]
    world.shows["doctor"] = {"checks": checks, "ladder": "8m < 10m < 11m", "exit_code": 6}
    assert deployer("doctor") == 6
    assert capsys.readouterr().out.splitlines() == [
        "ok  local  python    3.11.7",
        "!!  local  port      3001 is held by pid 7",
        "                     hint: stop pid 7",
        "??  local  health    no answer",
        "",
        "timeout ladder",
        "  8m < 10m < 11m",
        "",
        "!!  1 check of 3 failed; nothing was changed",
    ]


def test_attach_with_nothing_under_way_says_so(world: World, capsys: Capture) -> None:
    assert deployer("attach") == 0
    assert capsys.readouterr().out == "nothing under way on local\n"


@pytest.mark.parametrize("kind", ["start", "stop", "restart"])
def test_lifecycle_commands_share_the_drain_rules(world: World, capsys: Capture, kind: str) -> None:
    hosts = [{"host": "local", "status": "done", "release": NEW}]
    world.events = [
        event("push.started", app="mini-agent", target="local", release=None, kind=kind, who="root"),
        event(f"{kind}.finished", 2, status="done", exit_code=0, hosts=hosts),
    ]
    assert deployer(kind, "--ceiling", "1m30s", "--wait-lock", "5s", "--detach") == 0
    _, target, asked, options = world.asked("lifecycle")
    assert (target, asked, options.wait_lock, options.detach) == ("local", kind, 5.0, True)
    assert world.asked("ceiling") == ("ceiling", 90.0)
    words = {"start": f"started on {NEW}", "stop": "stopped", "restart": f"restarted on {NEW}"}
    assert capsys.readouterr().out.splitlines()[-1] == f"done   local {words[kind]} in 2s"


@pytest.mark.parametrize(
    ("words", "target", "release"),
    [
        ([], "local", None),
        (["production"], "production", None),
        ([OLD], "local", OLD),
        (["production", OLD], "production", OLD),
    ],
)
def test_rollback_takes_a_word_for_a_target_if_one_has_that_name(
    world: World, words: list[str], target: str, release: str | None
) -> None:
    assert deployer("rollback", *words) == 0
    assert world.asked("rollback")[1:3] == (target, release)


@pytest.mark.parametrize(
    ("words", "target", "deploy"),
    [
        ([], "local", None),
        (["production"], "production", None),
        (["20261121T20"], "local", "20261121T20"),
        (["production", "d1"], "production", "d1"),
    ],
)
def test_explain_takes_a_word_for_a_target_if_one_has_that_name(
    world: World, words: list[str], target: str, deploy: str | None
) -> None:
    world.shows["explain"] = {"hosts": []}
    assert deployer("explain", *words) == 0
    assert world.asked("explain") == ("explain", target, deploy)


def test_explain_of_an_unknown_target_and_a_deploy_is_refused(world: World) -> None:
    assert deployer("explain", "nowhere", "d1") == 2


def test_history_shows_each_drain_and_how_to_see_more(world: World, capsys: Capture) -> None:
    drains = [{"verdict": "clean", "waited_s": 4.0}, {"verdict": "killed", "waited_s": 30.0}]
    deploy = {
        "deploy": "d7",
        "kind": "push",
        "status": "reverted",
        "exit_code": 1,
        "verdict": "clean",
        "drains": drains,
    }
    world.shows["history"] = {"hosts": [{"host": "local", "deploys": [deploy]}]}
    assert deployer("history") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "clean 4s, killed 30s" in lines[1]
    assert lines[2:] == ["", "hint: deployer explain local d7"]


def test_status_says_what_a_drain_takes(world: World, capsys: Capture) -> None:
    facts = {**FACTS, "under_way": None, "drains": {"text": "usually 42s, longest 3m10s (last 14 drains)"}}
    world.shows["status"] = {"hosts": [{"host": "local", "facts": facts, "error": None}]}
    assert deployer("status") == 0
    assert "  drains    usually 42s, longest 3m10s (last 14 drains)\n" in capsys.readouterr().out


def test_rollback_with_an_unknown_target_and_a_release_is_refused(world: World) -> None:
    assert deployer("rollback", "nowhere", OLD) == 2


def test_rollback_check_changes_nothing_and_exits_as_told(world: World, capsys: Capture) -> None:
    hosts = [{"host": "local", "release": OLD, "ok": False, "detail": "it was pruned"}]
    world.shows["rollback_check"] = {"hosts": hosts, "exit_code": 6}
    assert deployer("rollback", "--check", OLD) == 6
    assert world.asked("rollback_check") == ("rollback_check", "local", OLD)
    assert f"!!  local  rollback  to {OLD} · it was pruned\n" in capsys.readouterr().out


def test_logs_reach_a_pipe_byte_for_byte(world: World, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    world.log = b"one\n\x1b[31mr\xc3\xa9d\xff\n"
    assert deployer("logs", "-f", "-n", "7") == 0
    assert capfdbinary.readouterr().out == world.log
    assert world.asked("logs") == ("logs", 7, True)


def test_logs_show_100_lines_unless_told(world: World) -> None:
    assert deployer("logs") == 0
    assert world.asked("logs") == ("logs", 100, False)


def test_logs_under_json_are_one_object(world: World, capsys: Capture) -> None:
    world.log = "one\ntwo é and no end".encode()
    assert deployer("logs", "--json") == 0
    assert json.loads(capsys.readouterr().out)["lines"] == ["one", "two é and no end"]


@pytest.mark.parametrize(
    "words", [["-c", "x.toml", "status"], ["status", "-c", "x.toml"], ["status", "--config=x.toml"]]
)
def test_global_option_works_before_and_after_the_command(world: World, words: list[str]) -> None:
    world.shows["status"] = {"hosts": []}
    assert deployer(*words) == 0
    assert world.asked("load") == ("load", Path("x.toml"), None)


@pytest.mark.parametrize("words", [["--json", "status"], ["status", "--json"]])
def test_json_works_before_and_after_the_command(world: World, capsys: Capture, words: list[str]) -> None:
    world.shows["status"] = {"hosts": []}
    assert deployer(*words) == 0
    assert json.loads(capsys.readouterr().out)["event"] == "status"


@pytest.mark.parametrize("words", [["--version"], ["push", "--version"], ["-q", "--version"]])
def test_version_works_everywhere(world: World, capsys: Capture, words: list[str]) -> None:
    from deployer import __version__

    assert deployer(*words) == 0
    assert capsys.readouterr().out == f"deployer {__version__}\n"
    assert world.calls == []


@pytest.mark.parametrize("words", [["push", "--moon"], ["pusj"], ["push", "a", "b"], ["-c"], ["logs", "-n", "x"]])
def test_usage_error_is_2_in_our_voice(world: World, capsys: Capture, words: list[str]) -> None:
    assert deployer(*words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert "\n\nhint: see `deployer" in shown.err
    assert world.calls == []


def test_no_word_at_all_shows_the_help_and_is_no_success(capsys: Capture) -> None:
    assert deployer() == 2
    assert "Usage: deployer" in capsys.readouterr().out


def test_help_lists_what_exists_and_nothing_else(capsys: Capture) -> None:
    assert deployer("--help") == 0
    listed = capsys.readouterr().out.split("Commands:\n")[1]
    names = [line.split()[0] for line in listed.splitlines()]
    expected = "doctor plan push status attach abort drain rollback releases history explain logs"
    expected += " run start stop restart enable disable"
    assert names == [*expected.split(), "registry"]
    assert "..." not in listed
