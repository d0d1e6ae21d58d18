"""One deploy from hand-written records: what happened when, what was waited for, where the time went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deployer.errors import UsageError
from deployer.host import lock
from deployer.host.explaining import explain
from deployer.host.journal import timestamp
from deployer.host.paths import HostPaths
from deployer.host.state import State
from deployer.host.waits import waits

NOW = 1_700_000_000.0
NEW, OLD = "r2", "r1"


class Story:
    """Writes the record of one deploy, seconds after NOW."""

    def __init__(self, root: Path) -> None:
        self.paths = HostPaths(root)
        self.paths.prepare_private()
        self.state = State(self.paths.state)
        self._seq = 0

    def deploy(self, name: str = "20261121T201500Z-push-9f3c", at: float = 0.0, **more: Any) -> None:
        health = {"url": "http://127.0.0.1:1/health", "streak": 2, "alive_for": 2.0}
        steps = [
            {"step": "stage", "what": "2 files"},
            {"step": "install", "what": "npm ci (at most 15m)"},
            {"step": "replace", "what": "…"},
            {"step": "ready", "what": "…"},
        ]
        request = {"instance": "new", "settings": {"health": health}, "steps": steps, **more.pop("request", {})}
        fields = {"kind": "push", "who": "root@dev", "release": NEW, "previous": OLD, "step": "replace", **more}
        self.state.insert("deploys", id=name, started_at=NOW + at, request=request, **fields)
        self.name = name

    def step(self, name: str, begin: float, done: float | None = None) -> None:
        for phase, at in (("begin", begin), ("done", done)):
            if at is not None:
                self._seq += 1
                self.state.insert(
                    "journal", deploy=self.name, seq=self._seq, step=name, phase=phase, data="{}", at=NOW + at
                )

    def event(self, name: str, at: float, **fields: Any) -> None:
        self._seq += 1
        event = {"v": 1, "time": timestamp(NOW + at), "deploy": self.name, "event": name, "seq": self._seq, **fields}
        self.state.insert("events", deploy=self.name, seq=self._seq, event=event)

    def instance(self, name: str, pid: int | None, started: float, **more: Any) -> None:
        fields = {"release": OLD, "state": "ended", "confirmed": 1, "adopted": 0, "log_offset": 0, **more}
        spec = {"argv": ["node", "api.js"]}
        self.state.insert(
            "instances", id=name, pid=pid, spec=spec, created_at=NOW + started, started_at=NOW + started, **fields
        )

    def drain(self, instance: str, at: float, waited: float | None, verdict: str = "clean", **more: Any) -> None:
        told = None if waited is None else json.dumps({"verdict": verdict, "waited_s": waited, "exit_code": 0})
        self.state.insert(
            "drains", instance=instance, deploy=self.name, who="root", asked_at=NOW + at, asked_mono=100.0,
            deadline_mono=760.0, signal="SIGTERM", signal_to="main", ceiling=660.0, verdict=told, **more,
        )  # fmt: skip

    def signal(self, instance: str, pid: int, at: float, name: str = "SIGTERM", sent: bool = True) -> None:
        self.state.insert(
            "signals", instance=instance, pid=pid, start=1, signal=name, intended_at=NOW + at,
            sent_at=NOW + at if sent else None,
        )  # fmt: skip

    def end(self, at: float, status: str = "done", code: int = 0, **result: Any) -> None:
        self.state.update(
            "deploys", self.name, ended_at=NOW + at, status=status, exit_code=code, result={"gap_ms": 4000, **result}
        )

    def told(self, asked: str | None = None, facts: dict[str, Any] | None = None) -> dict[str, Any]:
        return explain(self.paths, asked, lambda: facts or {"draining": [], "health": {"tasks": []}})


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def entry(told: dict[str, Any], what: str, number: int = 0) -> dict[str, Any]:
    found = [one for one in told["timeline"] if one["what"] == what]
    assert len(found) > number, f"no {what} in {[one['what'] for one in told['timeline']]}"
    return found[number]


def line(told: dict[str, Any], what: str, number: int = 0) -> tuple[Any, ...]:
    """When, how long, the text and what was waited for."""
    one = entry(told, what, number)
    return one["at_s"], one["took_s"], one["text"], one["waited_for"]


def clean(story: Story) -> None:
    """A push that waited 5 s for the lock, 3 s for the client, 12 s for npm and 252 s for callClaude."""
    behind = {"kind": "push", "deploy": "d0", "who": "ci"}
    story.deploy(at=8.0, request={"opened": {"at": NOW, "locked_at": NOW + 5.0, "behind": behind}})
    story.instance("old", 8812, -100.0, deploy="d0", ended_at=NOW + 272.1)
    story.instance("new", 9120, 272.2, deploy=story.name, release=NEW, state="running")
    story.step("stage", 8.0, 8.1)
    story.step("install", 8.1, 20.1)
    story.step("replace", 20.1, 272.3)
    story.drain("old", 20.1, 252.0)
    story.signal("old", 8812, 20.11)
    tasks = [{"name": "callClaude", "age_s": 252.4}]
    story.event(
        "drain.finished", 272.25, instance="old", pid=8812, verdict="clean", waited_s=252.0, lost=[], tasks=tasks
    )
    story.step("ready", 272.3, 273.1)
    story.event("ready", 273.1, probes=3, took_s=0.8)
    story.end(274.0)


def test_what_waited_for_what(story: Story) -> None:
    clean(story)
    told = story.told()
    assert line(told, "asked") == (0.0, None, "push by root@dev", None)
    assert line(told, "lock") == (0.0, 5.0, "", "the lock: push d0 by ci")
    assert line(told, "prepare")[:2] == (5.0, 3.0)
    assert line(told, "install") == (8.1, 12.0, "", "install: npm ci")
    assert line(told, "drain") == (
        20.1, 252.0, "SIGTERM, ceiling 11m", "pid 8812 (node api.js) to finish: callClaude (4m12s)"
    )  # fmt: skip
    assert line(told, "signal")[2] == "SIGTERM to pid 8812"
    assert line(told, "verdict") == (272.1, None, "clean exit after 4m12s, nothing lost", None)
    assert line(told, "start")[2] == "pid 9120 runs r2"
    assert line(told, "ready") == (272.3, 0.8, "serves, after 3 probes", "2 good answers in a row from pid 9120")
    assert line(told, "end")[2] == "done, exit code 0; no new request was served for 4s"
    times = [one["at_s"] for one in told["timeline"]]
    assert times == sorted(times) and not any(one["so_far"] for one in told["timeline"])
    assert told["deploy"]["drains"][0]["waited_s"] == 252.0


def test_where_the_time_went(story: Story) -> None:
    clean(story)
    told = story.told()["waits"]
    assert told["summary"] == "4m34s in all: 4m12s waiting for the old process's work, 12s installing, 10s for the rest"
    assert [(part["what"], part["took_s"]) for part in told["parts"][:4]] == [
        ("drain", 252.0), ("install", 12.0), ("lock", 5.0), ("prepare", 3.0)
    ]  # fmt: skip


def test_two_drains_at_once_count_once() -> None:
    both = [{"part": "drain", "at_s": at, "took_s": 10.0, "waited_for": "pid 1 to exit"} for at in (0.0, 5.0)]
    found = waits([*both, {"part": None, "at_s": 0.0, "took_s": 99.0}], 20.0, False)
    assert found["parts"] == [{"what": "drain", "took_s": 15.0, "text": "waiting for the old process to exit"}]
    assert found["summary"] == "20s in all: 15s waiting for the old process to exit, 5s for the rest"


def test_force_names_who_was_killed_and_what_was_lost(story: Story) -> None:
    story.deploy()
    story.instance("old", 8812, -100.0)
    story.drain("old", 1.0, 660.2, "killed")
    story.signal("old", 8812, 1.0, sent=False)
    for pid in (8812, 8813):
        story.signal("old", pid, 661.0, "SIGKILL")
    killed = [{"pid": 8812, "command": "node api.js"}, {"pid": 8813, "command": "claude -p"}]
    lost = [{"name": "callClaude", "age_s": 700.0}]
    story.event("drain.finished", 661.2, instance="old", verdict="killed", waited_s=660.2, killed=killed, lost=lost)
    story.end(662.0, code=5)
    told = story.told()
    assert line(told, "force")[2] == "SIGKILL to pid 8812 (node api.js), pid 8813 (claude -p)"
    assert line(told, "verdict")[2] == "KILLED after 11m: pid 8812, pid 8813; lost: callClaude (11m40s)"
    assert line(told, "signal")[2] == "SIGTERM to pid 8812 (intended; whether it was sent is not known)"


def test_revert_with_its_reason_and_the_process_that_went_by_itself(story: Story) -> None:
    story.deploy()
    story.instance("new", 9120, 1.0, deploy=story.name, release=NEW, ended_at=NOW + 1.5, exit_code=7)
    story.instance("back", 9121, 1.7, deploy=story.name, state="running")
    story.step("ready", 1.0)
    story.event("revert.started", 1.6, reason="it exited with code 7", log_tail=[])
    story.event("revert.finished", 2.6, release=OLD, ok=True)
    story.end(3.0, "reverted", 1, error={"title": "not ready", "cause": "it exited\nwith code 7"})
    told = story.told()
    assert line(told, "ready")[1:3] == (pytest.approx(0.6, abs=0.01), "it did not become ready")
    assert line(told, "exit")[2] == "pid 9120 exited by itself with code 7"
    assert line(told, "revert") == (
        pytest.approx(1.6, abs=0.01), pytest.approx(1.0, abs=0.01), "it exited with code 7", None
    )  # fmt: skip
    assert line(told, "revert", 1)[2] == "r1 serves again"
    assert line(told, "start", 1)[2] == "pid 9121 runs r1"
    assert entry(told, "end")["text"].endswith("; not ready")
    assert entry(told, "end")["detail"] == ["it exited", "with code 7"]


def test_events_of_other_versions_and_of_people_are_told(story: Story) -> None:
    story.deploy()
    story.event("drain.extended", 1.0, who="ann@dev", by_s=300.0, ceiling_s=960.0)
    story.event("drain.cut_short", 2.0, who="bob@dev")
    story.event("abort.asked", 3.0, who="eve@dev")
    story.event("drain.extended", 4.0, minutes=5)
    story.event("moon.phase", 5.0, phase="full", host="local", tides=[1, 2])
    story.event("resumed", 6.0, text="the runner had died; going on from the journal")
    story.event("last_call.started", 7.0, left_s=30.0)
    story.event("last_call.finished", 8.0, ok=False, text="exit code 1")
    story.event("warning", 9.0, text="careful")
    story.end(10.0)
    told = story.told()
    assert [(one["what"], one["text"]) for one in told["timeline"]][1:-1] == [
        ("extended", "ann@dev gave the drain 5m more: the ceiling is 16m"),
        ("cut short", "bob@dev ended the wait"),
        ("abort", "eve@dev asked to go back to the old release"),
        ("drain.extended", "minutes 5"),
        ("moon.phase", "phase full, tides [1, 2]"),
        ("resumed", "the runner had died; going on from the journal"),
        ("last call", "30s before the ceiling, the app is asked to save its work"),
        ("last call", "it failed: exit code 1"),
        ("warning", "careful"),
    ]


def test_deploy_under_way_tells_what_it_waits_for_now(story: Story) -> None:
    story.deploy()
    story.instance("old", 8812, -100.0)
    story.step("replace", 1.0)
    story.drain("old", 1.0, None)
    facts = {"draining": [{"pid": 8812}], "health": {"tasks": [{"name": "callClaude", "age_s": 3.0}]}}
    told = story.told(facts=facts)
    drain = entry(told, "drain")
    assert drain["so_far"] and drain["took_s"] > 1000
    assert drain["waited_for"] == "pid 8812 (node api.js) to finish: callClaude (3s)"
    assert entry(told, "now")["text"].startswith("at replace; no runner is at it")
    assert " so far: " in told["waits"]["summary"]
    held = lock.DeployLock(story.paths.lock)
    held.acquire({"pid": 1}, 0)
    assert entry(story.told(), "now")["text"] == "at replace"
    held.release()


def test_ended_deploy_asks_nobody(story: Story) -> None:
    clean(story)
    story.drain("given up", 273.0, None)

    def never() -> dict[str, Any]:
        raise AssertionError("looked")

    assert explain(story.paths, None, never)["timeline"]


def test_step_that_was_resumed_began_when_it_was_first_tried(story: Story) -> None:
    story.deploy()
    story.step("ready", 1.0)
    story.step("ready", 4.0, 5.0)
    story.end(6.0)
    assert line(story.told(), "ready")[:2] == (1.0, 4.0)


def test_only_what_started_and_went_during_the_deploy_is_its_own(story: Story) -> None:
    story.deploy()
    story.instance("new", 9120, 1.0, deploy=story.name, release=NEW, ended_at=NOW + 2.0)
    story.drain("new", 1.5, 0.5)  # it was asked to: that is a drain, and no exit
    story.instance("back", 9121, 2.0, deploy=story.name, ended_at=NOW + 90.0)
    story.end(3.0)
    story.instance("restarted", 9122, 91.0, deploy=story.name, state="running")
    told = story.told()
    assert [one["text"] for one in told["timeline"] if one["what"] == "start"] == [
        "pid 9120 runs r2",
        "pid 9121 runs r1",
    ]
    assert not [one for one in told["timeline"] if one["what"] == "exit"]


def test_deploy_of_an_older_version_has_a_timeline_too(story: Story) -> None:
    story.deploy(request={"settings": {}, "steps": None})
    story.step("ready", 1.0, 2.0)
    story.end(3.0)
    assert line(story.told(), "ready")[3] == "the new process to be alive for 0ms"


@pytest.mark.parametrize(
    ("asked", "found"), [(None, "20261122T"), ("20261121T20", "20261121T20"), ("20261121T09", "20261121T09")]
)
def test_a_name_s_beginning_is_enough(story: Story, asked: str | None, found: str) -> None:
    for at, name in enumerate(("20261121T090000Z-push-1", "20261121T200000Z-push-2", "20261122T000000Z-stop-3")):
        story.deploy(name, at=float(at))
    assert story.told(asked)["deploy"]["deploy"].startswith(found)


def test_whole_name_is_meant_though_another_one_begins_with_it(story: Story) -> None:
    for name in ("d1", "d10"):
        story.deploy(name)
    assert story.told("d1")["deploy"]["deploy"] == "d1"


def test_what_is_not_clear_is_said_with_the_candidates(story: Story) -> None:
    with pytest.raises(UsageError, match="nothing was deployed here yet"):
        story.told()
    for number in range(7):
        story.deploy(f"2026-{number}", at=float(number))
    with pytest.raises(UsageError, match='7 deploys begin with "2026"') as several:
        story.told("2026")
    assert several.value.cause == "2026-6\n2026-5\n2026-4\n2026-3\n2026-2\nand 2 more"
    for unknown in ("2027", "%", "2026_"):
        with pytest.raises(UsageError, match="no deploy here is called") as nothing:
            story.told(unknown)
        assert "deployer history" in str(nothing.value.hint)


def test_host_on_which_nothing_was_ever_done(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing was deployed here yet"):
        explain(HostPaths(tmp_path), None, dict)
