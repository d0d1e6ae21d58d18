"""What the commands that look show of 300 hosts, and one error of many hosts told once."""

from __future__ import annotations

from typing import Any

from cli_fakes import NEW, OLD, explained
from fleet_events import names

from deployer.cli.render.checks import doctor_lines
from deployer.cli.render.errors import alike
from deployer.cli.render.explain import explain_lines
from deployer.cli.render.paint import Paint
from deployer.cli.render.plan import plan_lines
from deployer.cli.render.status import status_lines
from deployer.cli.render.tables import history_lines, release_lines
from deployer.errors import GateError, LinkError

HOSTS = names(300)
GONE = LinkError("web-7 could not be reached", cause="timed out").to_json()


def over(key: str, value: Any) -> dict[str, Any]:
    """An answer of every host but the seventh."""
    return {
        "hosts": [
            {"host": host, key: None, "error": GONE} if host == "web-7" else {"host": host, key: value}
            for host in HOSTS
        ]
    }


def test_status_has_a_row_for_each_host_and_says_who_did_not_answer() -> None:
    running = {"status": "running", "release": NEW, "pid": 7, "uptime_s": 60, "health": "ok", "busy": 2, "tasks": []}
    hosts = [{"host": host, **running, "facts": {"under_way": None}, "error": None} for host in HOSTS[1:]]
    bad = {"host": "web-7", "facts": None, "error": GONE}
    lines = status_lines({"hosts": [bad, *hosts]}, "production", Paint())
    assert lines[1].split() == ["web-2", NEW, "running", "7", "1m", "ok", "2", "in", "progress", "-"]
    assert "error: web-7 could not be reached\n  cause: timed out" in lines
    assert lines[-1] == "300 hosts: 299 running, 1 without an answer"
    assert len(lines) == 304


def test_releases_are_counted() -> None:
    listed = [{"id": NEW, "state": "good", "current": True, "created_at": "2026-11-21T20:15:00Z"}, {"id": OLD}]
    lines = release_lines(over("releases", listed), Paint())
    assert lines[1].split() == [NEW, "2026-11-21", "20:15:00", "299", "299", "299", "good"]
    assert len(lines) == 3


def test_history_says_how_each_deploy_ended_on_how_many_hosts() -> None:
    data = over("deploys", [{"deploy": "d2", "kind": "push", "status": "done", "started_at": "2026-11-21T20:15:00Z"}])
    data["hosts"][0]["deploys"] = [{**data["hosts"][0]["deploys"][0], "status": "reverted"}]
    lines = history_lines(data, "production", Paint())
    assert "298 done, 1 reverted" in lines[1]
    assert lines[2:] == ["", "hint: deployer explain production d2"]


def test_plan_tells_alike_hosts_together() -> None:
    data = over("steps", [{"step": "stage", "what": "x"}, {"step": "drain", "what": "pid 7"}])
    data["hosts"][1].update(steps=[], release=NEW, warnings=["the ceiling is close"])
    assert plan_lines(data, Paint()) == [
        "298 hosts: web-1, web-3, web-4, web-5, web-6 and 293 more",
        "       stage, drain",
        "1 host: web-2",
        f"       nothing to do, already on {NEW}",
        "warning: web-2: the ceiling is close",
        "plan   nothing was changed",
    ]


def test_doctor_tells_what_is_not_in_order_and_counts_the_rest() -> None:
    checks = [{"host": host, "check": "disk", "ok": host != "web-7", "detail": "x"} for host in ["local", *HOSTS]]
    lines = doctor_lines({"checks": checks}, Paint())
    assert [line.split()[:3] for line in lines[:3]] == [
        ["ok", "local", "disk"],
        ["!!", "web-7", "disk"],
        ["ok", "299", "hosts"],
    ]
    assert lines[-1] == "!!  1 check of 301 failed; nothing was changed"


def test_timelines_of_many_hosts_are_a_row_each_the_bad_ones_first() -> None:
    hosts = [{**explained(), "host": host} for host in HOSTS]
    hosts[5] = {**hosts[5], "deploy": {**hosts[5]["deploy"], "status": "reverted"}}
    lines = explain_lines({"hosts": hosts}, Paint())
    assert lines[1].split()[:2] == ["web-6", "reverted"]
    assert len(lines) == 303


# errors --------------------------------------------------------------------------------------------------------------


def test_same_error_of_many_hosts_is_told_once_with_their_names() -> None:
    errors = [(host, LinkError(f"{host} could not be reached", cause=f"{host}: timed out")) for host in HOSTS]
    (told,) = alike(errors)
    assert told.title == "300 hosts: could not be reached"
    assert told.cause is not None and told.cause.startswith("web-1, web-2, ")
    assert told.cause.endswith(" and 289 more: timed out")
    assert told.code == 6


def test_causes_that_differ_are_told_apart_up_to_a_few() -> None:
    errors = [
        (host, GateError("the check failed", cause=f"exit {number % 6}")) for number, host in enumerate(HOSTS[:12])
    ]
    (told,) = alike(errors)
    assert (told.cause or "").splitlines()[0] == "web-1, web-7: exit 0"
    assert (told.cause or "").splitlines()[4:] == ["and 2 other causes"]


def test_one_error_names_its_host_and_this_machine_needs_no_name() -> None:
    assert [error.title for error in alike([("web-1", GateError("no"))])] == ["web-1: no"]
    assert [error.title for error in alike([("local", GateError("no"))])] == ["no"]


def test_after_the_tenth_different_error_the_rest_is_counted() -> None:
    told = alike([(host, GateError(f"error number {number}")) for number, host in enumerate(HOSTS[:40])])
    assert len(told) == 11
    assert told[-1].title == "30 more errors"
