"""What `deployer push` shows, whom it asks, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import (
    NEW,
    OLD,
    World,
    clean_push,
    deployer,
    ended,
    event,
    killed_push,
    progress,
    reverted_push,
    until_drain,
)

from deployer.errors import DownError, FailedError, GateError, Interrupted, LockedError, PreflightError

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World().install(monkeypatch)


def raising(error: BaseException) -> Callable[[], int]:
    def ends() -> int:
        raise error

    return ends


def test_clean_push_reads_as_promised(world: World, capsys: Capture) -> None:
    world.events = clean_push()
    assert deployer("push") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert (
        shown.out
        == f"""\
push   mini-agent to local
local  build   ok     1.2s
local  stage   ok     0.1s    212 files · 3.1 MB · 4 kB sent
local  check   ok     0.5s
local  drain   ...    0.5s    of 11m · callClaude 4m12s · 1 task · pid 8812
local  drain   ok     4m31s   clean exit, nothing lost
local  start   ok     0.8s    pid 9120 answers as {NEW}
done   local on {NEW} in 4m40s · gap 83 ms
next   deployer rollback local
"""
    )


def test_drain_says_what_the_ones_before_it_took(world: World, capsys: Capture) -> None:
    world.events = clean_push()
    started = next(event for event in world.events if event["event"] == "drain.started")
    started["expected"] = {"count": 14, "median_s": 42.0, "longest_s": 190.0, "at_least": False}
    assert deployer("push") == 0
    words = "of 11m · callClaude 4m12s · 1 task · pid 8812 · usually 42s, longest 3m10s"
    assert f"local  drain   ...    0.5s    {words}" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("events", "code"), [(killed_push, 5), (reverted_push, 1)])
def test_what_went_wrong_on_a_host_can_be_explained(
    world: World, capsys: Capture, events: Callable[[], list[dict[str, Any]]], code: int
) -> None:
    world.events, world.ends = events(), lambda: code
    next(event for event in world.events if event["event"] == "host.finished")["seq"] = 9
    assert deployer("push") == code
    assert capsys.readouterr().out.splitlines()[-1] == "next   deployer explain local d1"


def test_push_that_never_got_to_a_host_has_nothing_to_explain(world: World, capsys: Capture) -> None:
    world.events, world.ends = [*until_drain()[:2], *ended(2, "failed", 7, release=OLD)], lambda: 7
    assert deployer("push") == 7
    assert "explain" not in capsys.readouterr().out


def test_killed_drain_names_the_process_and_the_lost_task(world: World, capsys: Capture) -> None:
    world.events, world.ends = killed_push(), lambda: 5
    assert deployer("push") == 5
    lines = capsys.readouterr().out.splitlines()
    told = "pid 8812 had to be killed at the ceiling; lost: callClaude (4m12s)"
    assert f"local  drain   KILLED 11m     {told}" in lines
    assert f"done   local on {NEW} in 11m03s · gap 2.1s · a process had to be killed" in lines


def test_revert_shows_the_reason_and_the_end_of_the_log_without_its_escapes(world: World, capsys: Capture) -> None:
    error = FailedError(f"local did not become ready on {NEW}", cause="exit code 1", hint="fix the release")
    world.events, world.ends = reverted_push(error.to_json()), lambda: 1
    assert deployer("push") == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[4:] == [
        "local  drain   exited 0.2s    exit code 3, nothing lost",
        "local  ready   FAILED         the new process exited with code 1 after 0.3s",
        "       │ Error: no such table",
        "       │     at main (api.js:3)",
        f"local  revert  ok     1.2s    back on {OLD}",
        f"fail   local back on {OLD}",
    ]
    assert shown.err == f"error: local did not become ready on {NEW}\n  cause: exit code 1\n\nhint: fix the release\n"


def test_error_that_is_raised_and_told_by_its_host_is_shown_once(world: World, capsys: Capture) -> None:
    error = FailedError("local did not become ready", cause="exit code 1")
    world.events, world.ends = reverted_push(error.to_json()), raising(error)
    assert deployer("push") == 1
    assert capsys.readouterr().err.count("did not become ready") == 1


def test_error_has_the_form_of_the_house(world: World, capsys: Capture) -> None:
    world.ends = raising(GateError("the build failed", cause="exit code 2\nline 2", state="untouched", hint="fix it"))
    assert deployer("push") == 7
    expected = "error: the build failed\n  cause: exit code 2\n         line 2\n  state: untouched\n\nhint: fix it\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(("error", "code"), [(LockedError, 3), (PreflightError, 6), (DownError, 8), (Interrupted, 130)])
def test_each_error_has_its_exit_code(world: World, capsys: Capture, error: Any, code: int) -> None:
    world.ends = raising(error("no"))
    assert deployer("push") == code
    assert capsys.readouterr().err == "error: no\n"


def test_unforeseen_exception_is_called_a_bug_and_shows_where(world: World, capsys: Capture) -> None:
    world.ends = raising(KeyError("x"))
    assert deployer("push") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: this is a bug in deployer\n  cause: KeyError: 'x'\n")
    assert "Traceback" in err


def test_json_has_one_event_a_line_and_nothing_else(world: World, capsys: Capture) -> None:
    world.events = clean_push()
    world.warnings = ("the ceiling is below app_grace",)
    assert deployer("push", "--json") == 0
    shown = capsys.readouterr()
    expected = [item for item in world.events if item["event"] != "build.output"]
    assert [json.loads(line) for line in shown.out.splitlines()] == expected
    assert shown.err == "warning: the ceiling is below app_grace\n"


def test_json_tells_build_output_to_those_who_want_detail(world: World, capsys: Capture) -> None:
    world.events = clean_push()
    assert deployer("push", "--json", "-v") == 0
    assert "build.output" in capsys.readouterr().out


def test_json_survives_what_json_cannot_say(world: World, capsys: Capture) -> None:
    world.events = [event("drain.progress", busy=float("nan"), path=Path("/x"), odd="\udcff\x1b[0m é")]
    assert deployer("push", "--json") == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["busy"] is None


def test_json_ends_with_push_finished_even_when_the_config_is_refused(world: World, capsys: Capture) -> None:
    assert deployer("push", "nowhere", "--json") == 2
    shown = capsys.readouterr()
    (last,) = [json.loads(line) for line in shown.out.splitlines()]
    assert (last["event"], last["status"], last["exit_code"], last["hosts"]) == ("push.finished", "failed", 2, [])
    assert shown.err.startswith('error: no target "nowhere"\n')


def test_json_never_ends_twice(world: World, capsys: Capture) -> None:
    world.events, world.ends = ended(1, "failed", 7), raising(GateError("the build failed"))
    assert deployer("push", "--json") == 7
    assert capsys.readouterr().out.count("push.finished") == 1


def test_interrupted_push_has_no_last_event_because_the_host_goes_on(world: World, capsys: Capture) -> None:
    world.ends = raising(Interrupted("detached", state="the drain goes on", hint="deployer attach local"))
    assert deployer("push", "--json") == 130
    assert "push.finished" not in capsys.readouterr().out


def test_quiet_shows_only_the_result(world: World, capsys: Capture) -> None:
    world.events = clean_push()
    assert deployer("-q", "push") == 0
    assert capsys.readouterr().out == f"done   local on {NEW} in 4m40s · gap 83 ms\n"


def test_verbose_shows_build_output_and_unknown_events(world: World, capsys: Capture) -> None:
    world.events = [*until_drain(), event("moon.phase", phase="full")]
    assert deployer("push", "-v") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "       │ compiled" in lines
    assert "local  moon.phase phase full" in lines


@pytest.mark.parametrize(
    "odd",
    [
        {"event": "moon.phase"},
        {"event": None},
        {},
        {"event": "stage.finished", "files": "many", "bytes_sent": "x"},
        {"event": "drain.progress", "elapsed_s": "soon", "tasks": 3},
        {"event": "drain.finished", "verdict": None, "lost": 7},
        {"event": "push.finished", "status": "done", "hosts": [None]},
        {"event": "host.finished", "error": {"title": None}},
    ],
)
def test_odd_event_never_costs_anybody_a_push(world: World, capsys: Capture, odd: dict[str, Any]) -> None:
    world.events = [odd, *clean_push()]
    assert deployer("push") == 0
    shown = capsys.readouterr()
    assert f"local on {NEW}" in shown.out
    assert "Traceback" not in shown.err


def test_long_drain_without_a_terminal_stays_short(world: World, capsys: Capture) -> None:
    world.events = [*until_drain(), *(progress(tenth / 10) for tenth in range(1, 1000))]
    assert deployer("push") == 0
    drains = [line.split()[3] for line in capsys.readouterr().out.splitlines() if "  drain   ..." in line]
    assert drains == ["0.3s", "2s", "5s", "15s", "30s", "1m", "1m30s"]


def test_options_reach_the_rollout(world: World) -> None:
    words = "push production --artifact out.zip --release r1 --no-build --host a --host b --detach --wait-lock 10m"
    assert deployer(*words.split(), "--ceiling", "30s", "-c", "other.toml") == 0
    _, target, options = world.asked("push")
    assert world.asked("load") == ("load", Path("other.toml"), "production")
    assert world.asked("ceiling") == ("ceiling", 30.0)
    assert target == "production"
    assert (options.artifact, options.release, options.build) == (Path("out.zip"), "r1", False)
    assert (options.hosts, options.detach, options.wait_lock) == (("a", "b"), True, 600.0)


def test_defaults_leave_everything_to_the_config(world: World) -> None:
    assert deployer("deploy") == 0
    options = world.asked("push")[2]
    assert (options.artifact, options.release, options.build) == (None, None, True)
    assert (options.hosts, options.detach, options.wait_lock) == ((), False, 0.0)
    assert not any(call[0] == "ceiling" for call in world.calls)


@pytest.mark.parametrize("option", ["--ceiling", "--wait-lock"])
def test_duration_without_a_unit_is_refused(world: World, capsys: Capture, option: str) -> None:
    assert deployer("push", option, "30") == 2
    assert capsys.readouterr().err.startswith(f"error: invalid value for '{option}'")
    assert world.calls == []


@pytest.mark.parametrize("words", [["plan"], ["push", "--dry-run"]])
def test_dry_run_shows_the_plan_and_pushes_nothing(world: World, capsys: Capture, words: list[str]) -> None:
    steps = [{"step": "build", "what": "npm run build"}, {"step": "drain", "what": "pid 8812, at most 11m"}]
    hosts = [{"host": "local", "release": None, "steps": steps, "warnings": []}]
    world.shows["plan"] = {"hosts": hosts, "warnings": ["the ceiling is low"]}
    assert deployer(*words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "local  build    npm run build",
        "local  drain    pid 8812, at most 11m",
        "warning: the ceiling is low",
        "plan   nothing was changed",
    ]
    assert not any(call[0] == "push" for call in world.calls)


def test_detached_push_says_how_to_follow(world: World, capsys: Capture) -> None:
    world.events = until_drain()
    assert deployer("push", "--detach", "production") == 0
    assert capsys.readouterr().out.endswith("next   deployer attach production\n")
