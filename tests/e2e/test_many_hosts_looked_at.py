"""The commands that only look, over three real servers of which one is down: the others are told, and the code says so."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from app import Result
from fleet import Fleet, make_fleet
from sshd import Host


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Pushed to all three; then the second one's server stops."""
    with make_fleet(tmp_path_factory.mktemp("fleet"), 3) as made:
        made.push()
        made.hosts[1].stop()
        made.hosts[1].kill_sessions()
        yield made


def names(fleet: Fleet) -> list[str]:
    return [host.written for host in fleet.hosts]


def listed(result: Result, name: str) -> list[dict[str, Any]]:
    """`hosts` of the one object that *name* prints; the second one is always the bad one."""
    found: list[dict[str, Any]] = result.event(name)["hosts"]
    good = [host for host in found if not host.get("error")]
    assert [host["host"] for host in found] == [good[0]["host"], found[1]["host"], good[1]["host"]]
    assert found[1]["error"]["code"] == 6
    return found


def test_status_is_0_and_shows_the_good_ones_beside_the_bad_one(fleet: Fleet) -> None:
    found = listed(fleet.run("status", "--json", check=0), "status")
    assert [host["host"] for host in found] == names(fleet)
    assert [host.get("status") for host in found] == ["running", None, "running"]
    human = fleet.run("status", check=0)
    assert f"error     {names(fleet)[1]}" in human.out and human.out.count("  process   pid ") == 2


@pytest.mark.parametrize(
    ("command", "key"),
    [("releases", "releases"), ("history", "deploys"), ("explain", "timeline"), ("plan", "steps")],
)
def test_what_the_good_ones_say_is_shown_and_the_code_is_that_of_the_bad_one(
    fleet: Fleet, command: str, key: str
) -> None:
    result = fleet.run(command, "--json", check=6)
    found = listed(result, command)
    assert not found[1][key]
    if command != "plan":
        assert found[0][key] and found[2][key]
    assert result.err.count(names(fleet)[1]) >= 1
    human = fleet.run(command, check=6)
    assert f"no {key} on {names(fleet)[1]}" not in human.out
    assert human.err.startswith(f"error: {names(fleet)[1]}")


def test_rollback_check_looks_at_every_host(fleet: Fleet) -> None:
    result = fleet.run("rollback", "--check", "--json")
    found = result.event("rollback")["hosts"]
    assert [host["host"] for host in found] == names(fleet)
    assert "earlier" in found[0]["detail"] and names(fleet)[1] in found[1]["detail"]
    assert result.code != 0


def test_doctor_checks_each_host_and_this_machine_once(fleet: Fleet) -> None:
    result = fleet.run("doctor", "--json", check=6)
    checks = result.event("doctor")["checks"]
    bad = [check for check in checks if check["ok"] is False]
    assert [(check["host"], check["check"]) for check in bad] == [(names(fleet)[1], "reach")]
    assert [check["host"] for check in checks if check["check"] == "config"] == ["local"]
    assert [check["host"] for check in checks if check["check"] == "process" and check["ok"]] == names(fleet)[::2]


@pytest.mark.parametrize("command", ["status", "releases", "history", "explain", "plan", "logs", "doctor"])
def test_host_narrows_every_command_and_refuses_a_stranger(fleet: Fleet, command: str) -> None:
    fleet.run(command, "--host", names(fleet)[2], "--json", check=0)
    refused = fleet.run(command, "--host", "nobody", check=2)
    assert (
        f"target fleet has no host nobody\n  state: nothing was changed\n\nhint: it has: {names(fleet)[0]}"
        in refused.err
    )


def test_logs_of_each_host_stand_together_behind_its_name(fleet: Fleet) -> None:
    result = fleet.run("logs", "-n", "5", check=6)
    hosts = [line.partition(" ")[0] for line in result.out.splitlines()]
    assert set(hosts) == set(names(fleet)[::2])
    assert hosts == sorted(hosts, key=names(fleet).index)
    assert all(f"  | {line.partition('  | ')[2]}" in line for line in result.out.splitlines())
    spoken = fleet.run("logs", "-n", "5", "--json", check=6).events
    assert {event["host"]: bool(event["lines"]) for event in spoken} == {
        name: name != names(fleet)[1] for name in names(fleet)
    }


def test_logs_are_followed_on_all_hosts_at_once_and_no_line_is_torn(fleet: Fleet) -> None:
    process = fleet.start("logs", "-f", "-n", "1")
    assert process.stdout is not None
    first, last = fleet.hosts[0], fleet.hosts[2]
    try:
        began = {process.stdout.readline().partition(" ")[0] for _ in range(2)}
        assert began == {first.written, last.written}
        write(first, "half of a line, ")
        write(last, "a whole one\n")
        width = max(map(len, names(fleet)))
        assert process.stdout.readline() == f"{last.written:<{width}}  | a whole one\n"
        write(first, "and its end\n")
        assert process.stdout.readline() == f"{first.written:<{width}}  | half of a line, and its end\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        _, err = process.communicate()
    assert f"error: {names(fleet)[1]}" in err


def write(host: Host, words: str) -> None:
    """As the app of *host* would."""
    with (host.path / "logs" / "app.log").open("a") as log:
        log.write(words)
