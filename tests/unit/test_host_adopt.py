"""Which process is meant: wrappers and their children are one, and deployer itself is never it."""

from __future__ import annotations

import os

import pytest

from app import command as client_command
from deployer.errors import PreflightError, UsageError
from deployer.host import adopt, units
from deployer.host.process import Processes, Stat
from deployer.host.supervisors import systemctl
from deployer.model import Identity


class Table(Processes):
    """A process table of the test's own: pid → (parent, command line)."""

    def __init__(self, rows: dict[int, tuple[int, str]], engines: tuple[int, ...] = ()) -> None:
        self.boot = "boot"
        self._rows = {**rows, os.getpid(): (900, "python -I -S engine agent")}
        self._rows.update(
            {900: (901, "python -m deployer push"), 901: (1, "bash -c deployer push # api.js"), 1: (0, "init")}
        )
        self._engines = engines

    def table(self) -> dict[int, Stat]:
        return {pid: self.stat(pid) for pid in self._rows}

    def stat(self, pid: int) -> Stat:
        return Stat(pid, self._rows[pid][0], pid, pid, "S", 1, pid * 10, "x")

    def argv(self, pid: int) -> list[str]:
        return self._rows[pid][1].split()

    def environ(self, pid: int) -> bytes:
        return b"A=1\0DEPLOYER_ENGINE=keeper\0" if pid in self._engines else b"A=1\0"

    def owner(self, pid: int) -> tuple[int, int]:
        return os.geteuid(), os.getegid()


def found(pattern: str, rows: dict[int, tuple[int, str]], engines: tuple[int, ...] = ()) -> int:
    return adopt.find({"match": pattern}, Table(rows, engines)).identity.pid


def test_the_one_match_is_found() -> None:
    assert found("api.js", {50: (1, "node api.js"), 51: (1, "node other.js")}) == 50


@pytest.mark.parametrize(
    "rows",
    [
        {50: (1, "sh -c node api.js; true"), 51: (50, "node api.js")},
        {50: (1, "npm run api.js"), 51: (50, "sh -c npm"), 52: (51, "node api.js"), 53: (52, "node api.js worker")},
    ],
    ids=["shell", "through a process that does not match"],
)
def test_a_wrapper_and_what_it_started_are_one(rows: dict[int, tuple[int, str]]) -> None:
    assert found("api.js", rows) == 50


@pytest.mark.parametrize(
    "line",
    [
        "deployer -c /srv/api.js.toml push",
        "/usr/local/bin/deployer status api.js",
        "/venv/bin/python3 /venv/bin/deployer logs -f api.js",
        "python3.12 -m deployer push api.js",
        "python -X utf8 -m deployer attach api.js",
    ],
)
def test_other_deployer_commands_and_their_callers_are_never_it(line: str) -> None:
    rows = {50: (1, "node api.js"), 60: (1, f"sh -c {line}"), 61: (60, line)}
    assert found("api.js", rows) == 50


def test_the_engine_is_never_it() -> None:
    assert found("api.js", {50: (1, "node api.js"), 70: (1, "python keeper /srv/api.js")}, engines=(70,)) == 50


def test_an_app_that_only_has_the_word_in_its_arguments_is_found() -> None:
    assert found("api.js", {50: (1, "node api.js --audit=deployer")}) == 50


def test_nobody_but_ourselves_is_nobody() -> None:
    with pytest.raises(PreflightError) as caught:
        found("api.js", {51: (1, "node api.mjs")})
    assert 'matches "api.js"' in str(caught.value.cause)
    assert "pid 51 node api.mjs" in str(caught.value.cause)


def test_several_are_listed() -> None:
    with pytest.raises(PreflightError) as caught:
        found("api.js", {50: (1, "node api.js --port 1"), 51: (1, "node api.js --port 2")})
    assert "fits 2 processes" in caught.value.title
    assert str(caught.value.cause) == "pid 50 node api.js --port 1\npid 51 node api.js --port 2"


def test_process_that_was_replaced_since_it_was_seen_is_not_adopted() -> None:
    seen = Identity(os.getpid(), 1, Processes().boot)
    with pytest.raises(PreflightError, match="not found") as caught:
        adopt.again(seen, Processes())
    assert "has exited meanwhile" in str(caught.value.cause)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1min 30s", 90.0),
        ("10s", 10.0),
        ("500ms", 0.5),
        ("1h 5min", 3900.0),
        ("11min", 660.0),
        ("1d", 86400.0),
        ("2w", 1209600.0),
        ("1.5s", 1.5),
        ("90000000us", 90.0),
        ("infinity", None),
        ("infinity\n", None),
    ],
)
def test_systemd_durations_are_read(text: str, value: float | None) -> None:
    assert systemctl.seconds(text) == value


@pytest.mark.parametrize(
    ("limit", "fine"), [("infinity", True), ("12min", True), ("11min", False), ("1min 30s", False)]
)
def test_unit_must_outlast_the_ceiling(monkeypatch: pytest.MonkeyPatch, limit: str, fine: bool) -> None:
    monkeypatch.setattr(adopt, "unit_properties", lambda unit, scope: {"TimeoutStopUSec": limit})
    if fine:
        units.check("agent.service", 660.0)
        return
    with pytest.raises(UsageError) as caught:
        units.check("agent.service", 660.0)
    assert "TimeoutStopSec of agent.service" in caught.value.title
    assert "drain.ceiling is 11m" in caught.value.title


def test_command_of_the_tests_is_recognised() -> None:
    assert adopt._is_command(client_command("push"))
