"""A push over several real hosts: who is changed when, what stops it, what becomes of the rest, and the exit code."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import Result, wait_until
from fleet import Fleet, make_fleet
from read_ahead import whole
from sshd import Host

CHECK = 'command = "test ! -e ~/bad"'
ONE_BY_ONE = 'canary = 1\nbatch = 1\nbake = "0s"'


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with make_fleet(tmp_path, 3) as made:
        yield made


def end(process: subprocess.Popen[str], within: float = 60) -> Result:
    out, err = process.communicate(timeout=within)
    return Result(process.returncode, out, err, 0)


def statuses(result: Result, name: str = "push.finished") -> list[str]:
    return [host["status"] for host in result.event(name)["hosts"]]


def releases(fleet: Fleet) -> list[str | None]:
    return [host.current() for host in fleet.hosts]


def order(result: Result) -> list[str]:
    """The hosts as they were begun."""
    return [event["host"] for event in result.events if event["event"] == "host.started"]


def test_hosts_are_changed_in_batches_after_a_canary_that_was_baked(fleet: Fleet) -> None:
    fleet.configure(rollout='canary = 1\nbatch = "50%"\nbake = "1s"')
    result = fleet.push()
    names = [name for name in result.names() if name.partition(".")[0] in ("rollout", "batch", "bake", "push")]
    assert names == [
        "push.started", "rollout.started", "batch.started", "batch.finished", "bake.started", "bake.finished",
        "batch.started", "batch.finished", "push.finished",
    ]  # fmt: skip
    assert result.event("rollout.started")["batches"] == [
        [fleet.hosts[0].written],
        [fleet.hosts[1].written, fleet.hosts[2].written],
    ]
    assert result.event("push.finished")["status"] == "done"
    assert len(set(releases(fleet))) == 1
    baked = [event["time"] for event in result.events if event["event"].startswith("bake.")]
    assert (
        baked[0]
        < baked[1]
        <= min(e["time"] for e in result.events if e["event"] == "batch.started" and e["batch"] == 2)
    )


def test_idle_hosts_come_first(fleet: Fleet) -> None:
    fleet.push()
    fleet.release("v2")
    fleet.configure(rollout=ONE_BY_ONE)
    task = fleet.hosts[0].task(100)
    client = fleet.start("push", "--json")
    wait_until(lambda: fleet.hosts[0].lines("SIGNALS_FILE"), what="its turn has come")
    fleet.hosts[0].finish()
    result = end(client)
    assert result.code == 0, result.err
    assert order(result) == [fleet.hosts[1].written, fleet.hosts[2].written, fleet.hosts[0].written]
    assert task.wait(60) == 0
    task.communicate()


def test_failed_canary_leaves_the_others_alone(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    (fleet.hosts[0].home / "bad").touch()
    fleet.configure(rollout=ONE_BY_ONE, check=CHECK)
    fleet.release("v2")
    result = fleet.push(check=7)
    assert statuses(result) == ["failed", "untouched", "untouched"]
    assert releases(fleet) == before
    assert [len(host.lines("SIGNALS_FILE")) for host in fleet.hosts] == [0, 0, 0]
    assert fleet.status()[fleet.hosts[2].written]["under_way"] is None
    ended = [event["host"] for event in result.events if event["event"] == "host.finished"]
    assert sorted(ended) == sorted(host.written for host in fleet.hosts)


def test_changed_hosts_go_back_when_a_later_one_fails(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    (fleet.hosts[2].home / "bad").touch()
    fleet.configure(rollout=ONE_BY_ONE, check=CHECK)
    fleet.release("v2")
    result = fleet.push(check=1)
    assert statuses(result) == ["reverted", "reverted", "failed"]
    assert releases(fleet) == before
    stopped = result.event("rollout.stopped")
    assert stopped["failed"] == [fleet.hosts[2].written] and stopped["on_failure"] == "revert"
    assert {host["release"] for host in result.event("push.finished")["hosts"]} == set(before)


def test_hold_keeps_what_was_changed_and_a_second_push_finishes_the_rest(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    (fleet.hosts[1].home / "bad").touch()
    fleet.configure(rollout=f'{ONE_BY_ONE}\non_failure = "hold"', check=CHECK)
    fleet.release("v2")
    result = fleet.push(check=4)
    assert statuses(result) == ["done", "failed", "untouched"]
    assert releases(fleet)[1:] == before[1:] and releases(fleet)[0] != before[0]
    (fleet.hosts[1].home / "bad").unlink()
    again = fleet.push()
    assert statuses(again) == ["unchanged", "done", "done"]
    assert order(again) == [host.written for host in fleet.hosts[1:]]
    assert len(set(releases(fleet))) == 1
    assert len(fleet.hosts[0].lines("SIGNALS_FILE")) == 1


def test_failures_within_the_budget_do_not_stop_the_rollout(fleet: Fleet) -> None:
    fleet.push()
    (fleet.hosts[0].home / "bad").touch()
    fleet.configure(rollout=f"{ONE_BY_ONE}\nmax_failed = 1", check=CHECK)
    fleet.release("v2")
    result = fleet.push(check=4)
    assert statuses(result) == ["failed", "done", "done"]


def test_unreachable_host_stops_everything_before_anything(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    fleet.hosts[1].stop()
    fleet.release("v2")
    result = fleet.push(check=6)
    assert statuses(result) == ["untouched", "unreachable", "untouched"]
    assert releases(fleet) == before
    assert fleet.hosts[1].written in result.err


def test_unreachable_host_within_the_budget_is_listed(fleet: Fleet) -> None:
    fleet.push()
    fleet.hosts[1].stop()
    fleet.configure(rollout=f"{ONE_BY_ONE}\nmax_unreachable = 1")
    fleet.release("v2")
    result = fleet.push(check=0)
    assert statuses(result) == ["done", "unreachable", "done"]
    fleet.hosts[1].start()
    assert statuses(fleet.push()) == ["unchanged", "done", "unchanged"]
    assert len(set(releases(fleet))) == 1


@pytest.mark.full
def test_canary_that_does_not_keep_running_is_taken_back(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    fleet.configure(args=["--crash-after", "1.5"], rollout='canary = 1\nbatch = 1\nbake = "8s"')
    fleet.release("v2")
    result = fleet.push(check=1)
    assert result.event("bake.finished")["ok"] is False
    assert statuses(result) == ["reverted", "untouched", "untouched"]
    assert releases(fleet) == before


def test_two_pushes_to_the_same_hosts_do_not_mix(fleet: Fleet) -> None:
    fleet.push()
    fleet.release("v2")
    task = fleet.hosts[0].task(100)
    first = fleet.start("push", "--json")
    wait_until(lambda: fleet.hosts[0].lines("SIGNALS_FILE"), what="the first one drains")
    refused = fleet.push(check=3)
    assert set(statuses(refused)) <= {"untouched", "failed"}
    fleet.hosts[0].finish()
    assert end(first).code == 0
    task.communicate()


def test_pushes_to_overlapping_hosts_wait_for_each_other_and_both_end(fleet: Fleet) -> None:
    fleet.push()
    text = (fleet.root / "deploy.toml").read_text()
    fleet.release("v2")
    a, b, c = (host.written for host in sorted(fleet.hosts, key=lambda host: host.written))
    assert a in text
    one = [fleet.start("push", "--json", "--wait-lock", "60s", "--host", a, "--host", c) for _ in range(2)]
    two = [fleet.start("push", "--json", "--wait-lock", "60s", "--host", b, "--host", c) for _ in range(2)]
    assert [end(process, 90).code for process in (*one, *two)] == [0, 0, 0, 0]


def test_interrupted_client_tells_what_goes_on_and_what_was_not_touched(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    fleet.configure(rollout=ONE_BY_ONE)
    fleet.release("v2")
    tasks = [host.task(100) for host in fleet.hosts]
    client = fleet.start("push", "--json")
    wait_until(lambda: any(host.lines("SIGNALS_FILE") for host in fleet.hosts), what="the first host drains")
    os.kill(client.pid, signal.SIGINT)
    result = end(client)
    assert result.code == 130
    assert f"goes on on {fleet.hosts[0].written}" in result.err
    assert f"not touched: {fleet.hosts[1].written}, {fleet.hosts[2].written}" in result.err
    attaching = whole(fleet.start("attach", "--json"))
    assert attaching.stdout is not None
    first = attaching.stdout.readline()
    for host in fleet.hosts:
        host.finish()
    attached = end(attaching)
    assert attached.code == 0, first + attached.out + attached.err
    assert attached.event("host.finished")["status"] == "done"
    assert releases(fleet)[1:] == before[1:] and releases(fleet)[0] != before[0]
    assert [task.wait(60) for task in tasks] == [0, 0, 0]
    for task in tasks:
        task.communicate()
    assert statuses(fleet.push()) == ["unchanged", "done", "done"]


def test_abort_takes_every_host_back(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    fleet.release("v2")
    tasks = [host.task(100) for host in fleet.hosts]
    client = fleet.start("push", "--json")
    wait_until(lambda: all(host.lines("SIGNALS_FILE") for host in fleet.hosts), what="all drain")
    aborting = fleet.start("abort", "--json")
    wait_until(lambda: all(map(aborted, fleet.hosts)), what="the abort is on record everywhere")
    for host in fleet.hosts:
        host.finish()
    told = end(aborting)
    assert told.code == 0, told.err
    assert told.event("abort.finished")["status"] == "aborted"
    assert end(client).code == 1
    assert releases(fleet) == before
    assert [task.wait(60) for task in tasks] == [0, 0, 0]
    for task in tasks:
        task.communicate()


def test_abort_in_a_rollout_stops_it_whatever_its_budget(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    fleet.configure(rollout=f"{ONE_BY_ONE}\nmax_failed = 3")
    fleet.release("v2")
    task = fleet.hosts[0].task(100)
    busy = [host.task(100) for host in fleet.hosts[1:]]
    client = fleet.start("push", "--json")
    wait_until(lambda: fleet.hosts[0].lines("SIGNALS_FILE"), what="the first host drains")
    aborting = fleet.start("abort", "--host", fleet.hosts[0].written)
    wait_until(lambda: aborted(fleet.hosts[0]), what="the abort is on record")
    fleet.hosts[0].finish()
    assert end(aborting).code == 0
    result = end(client)
    assert (result.code, releases(fleet)) == (1, before)
    assert statuses(result) == ["reverted", "untouched", "untouched"]
    for process in (task, *busy):
        process.kill()
        process.communicate()


def test_drain_moves_on_every_host(fleet: Fleet) -> None:
    fleet.push()
    fleet.configure(drain='ceiling = "90s"')
    fleet.release("v2")
    tasks = [host.task(100) for host in fleet.hosts]
    client = fleet.start("push", "--json")
    wait_until(lambda: all(host.lines("SIGNALS_FILE") for host in fleet.hosts), what="all drain")
    moved = fleet.run("drain", "--now", "--json", check=0).events[0]
    assert [len(host["drains"]) for host in moved["hosts"]] == [1, 1, 1]
    result = end(client)
    assert (result.code, statuses(result)) == (5, ["done"] * 3)
    for task in tasks:
        task.communicate()


def test_detached_push_returns_when_all_drains_have_begun(fleet: Fleet) -> None:
    fleet.push()
    fleet.release("v2")
    tasks = [host.task(100) for host in fleet.hosts]
    result = fleet.push("--detach")
    assert (result.event("push.finished")["status"], statuses(result)) == ("detached", ["detached"] * 3)
    assert [task.poll() for task in tasks] == [None] * 3
    for host in fleet.hosts:
        host.finish()
    fleet.run("attach", check=0)
    assert len(set(releases(fleet))) == 1
    for task in tasks:
        assert task.wait(60) == 0
        task.communicate()


def test_rollback_restart_stop_and_start_over_all_hosts(fleet: Fleet) -> None:
    fleet.push()
    first = releases(fleet)
    fleet.release("v2")
    fleet.push()
    assert statuses(fleet.run("rollback", "--json", check=0)) == ["done"] * 3
    assert releases(fleet) == first
    assert statuses(fleet.run("restart", "--json", check=0), "restart.finished") == ["done"] * 3
    assert statuses(fleet.run("stop", "--json", check=0), "stop.finished") == ["done"] * 3
    assert all(facts["instance"] is None for facts in fleet.status().values())
    assert statuses(fleet.run("start", "--json", check=0), "start.finished") == ["done"] * 3


def test_one_host_of_several(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    fleet.release("v2")
    result = fleet.push("--host", fleet.hosts[1].written)
    assert [host["host"] for host in result.event("push.finished")["hosts"]] == [fleet.hosts[1].written]
    assert [now == then for now, then in zip(releases(fleet), before, strict=True)] == [True, False, True]
    assert fleet.run("push", "--host", "nobody").code == 2


def test_failed_build_is_told_once_and_touches_nothing(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    fleet.configure(build='command = "exit 9"\nartifact = "dist"')
    result = fleet.push(check=7)
    assert statuses(result) == ["failed"] * 3
    assert (result.err.count("error:"), releases(fleet)) == (1, before)


def aborted(host: Host) -> bool:
    """Whether a deploy on *host* is to be taken back."""
    database = sqlite3.connect(f"file:{host.path}/.deployer/state.db?mode=ro", uri=True, timeout=10)
    try:
        return database.execute("SELECT 1 FROM journal WHERE step='abort'").fetchone() is not None
    finally:
        database.close()


def found(result: Result, name: str) -> list[dict[str, Any]]:
    return [event for event in result.events if event["event"] == name]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_eight_hosts_of_which_one_fails_one_is_away_and_one_loses_power(tmp_path: Path) -> None:
    with make_fleet(tmp_path, 8) as fleet:
        fleet.push()
        before = releases(fleet)
        (fleet.hosts[2].home / "bad").touch()
        fleet.hosts[4].stop()
        budget = 'canary = 1\nbatch = 2\nbake = "0s"\nmax_failed = 1\nmax_unreachable = 1\non_failure = "hold"'
        fleet.configure(
            rollout=budget, check=CHECK, ssh='reconnect_within = "4s"\nsilent_after = "3s"\nheartbeat = "1s"'
        )
        fleet.release("v2")
        task = fleet.hosts[6].task(60)
        client = fleet.start("push", "--json")
        wait_until(lambda: fleet.hosts[6].lines("SIGNALS_FILE"), within=60, what="the seventh host drains")
        fleet.hosts[6].power_off()
        result = end(client, 120)
        task.kill()
        task.communicate()
        assert result.code == 4
        assert statuses(result) == ["done", "done", "failed", "done", "unreachable", "done", "lost", "done"]
        told = {event["host"]: event["cause"] for event in found(result, "link.lost")}
        assert list(told) == [fleet.hosts[6].written]
        for host in fleet.hosts:
            (host.home / "bad").unlink(missing_ok=True)
        fleet.hosts[4].start()
        fleet.hosts[6].start()
        again = fleet.push("--wait-lock", "30s", timeout=120)
        assert again.code == 0
        # The same content everywhere; also the same name, unless the host that was resumed meanwhile has it for itself already.
        assert len({str(name).rpartition("-")[2] for name in releases(fleet)}) == 1 and releases(fleet) != before
        assert {facts["instance"]["release"] for facts in fleet.status().values()} == set(releases(fleet))


def test_interrupted_client_lets_go_of_a_whole_batch_at_once(fleet: Fleet) -> None:
    fleet.push()
    fleet.release("v2")
    tasks = [host.task(100) for host in fleet.hosts]
    client = fleet.start("push", "--json")
    wait_until(lambda: all(host.lines("SIGNALS_FILE") for host in fleet.hosts), what="all drain")
    began = time.monotonic()
    os.kill(client.pid, signal.SIGINT)
    result = end(client)
    assert (result.code, time.monotonic() - began < 40) == (130, True)
    assert "goes on on" in result.err
    assert not found(result, "link.lost")
    fleet.run("drain", "--now", check=0)
    fleet.run("attach")
    assert len(set(releases(fleet))) == 1
    for task in tasks:
        task.kill()
        task.communicate()


def test_nothing_begins_after_an_interrupt_while_the_links_are_away(fleet: Fleet) -> None:
    """Two hosts wait for their turn behind a canary, their links break and come back: Ctrl-C has the last word."""
    fleet.push()
    before = releases(fleet)
    fleet.configure(rollout='canary = 1\nbatch = 2\nbake = "30s"', ssh='heartbeat = "300ms"\nsilent_after = "2s"')
    fleet.release("v2")
    client = fleet.start("push", "--json")
    wait_until(lambda: fleet.hosts[0].lines("SIGNALS_FILE"), what="the canary is changed")
    for host in fleet.hosts[1:]:
        host.kill_sessions()
    os.kill(client.pid, signal.SIGINT)
    result = end(client)
    assert result.code == 130
    assert releases(fleet)[1:] == before[1:]
    assert [len(host.lines("SIGNALS_FILE")) for host in fleet.hosts[1:]] == [0, 0]


@pytest.mark.full
def test_abort_reaches_a_push_that_builds_or_waits_for_its_turn(fleet: Fleet) -> None:
    fleet.push()
    before = releases(fleet)
    fleet.configure(build='command = "touch building; sleep 60"\nartifact = "dist"')
    client = fleet.start("push", "--json")
    wait_until(lambda: (fleet.root / "building").exists(), what="it builds")
    assert fleet.run("abort", "--json", timeout=30, check=0).event("abort.finished")["status"] == "aborted"
    os.kill(client.pid, signal.SIGINT)  # the build itself is another machine's
    end(client)
    fleet.configure(rollout='canary = 1\nbatch = 2\nbake = "60s"\nmax_failed = 3')
    fleet.release("v2")
    client = fleet.start("push", "--json")
    wait_until(lambda: fleet.hosts[0].current() != before[0], what="the canary is changed, and bakes")
    wait_until(lambda: fleet.run("abort", "--json").code == 0, what="abort")
    result = end(client)
    assert (result.code, releases(fleet)) == (1, before)
    assert statuses(result)[0] == "reverted"


@pytest.mark.full
def test_take_back_leaves_alone_what_somebody_else_has_pushed(fleet: Fleet) -> None:
    fleet.push()
    (fleet.hosts[1].home / "bad").touch()
    fleet.configure(rollout='canary = 1\nbatch = 1\nbake = "8s"', check=CHECK)
    fleet.release("v2")
    client = fleet.start("push", "--json")
    seen = fleet.hosts[0].current()
    wait_until(lambda: fleet.hosts[0].current() != seen, what="the canary is changed")
    wait_until(lambda: fleet.status()[fleet.hosts[0].written]["under_way"] is None, what="it bakes")
    fleet.release("v3")
    hotfix = fleet.push("--host", fleet.hosts[0].written).event("push.finished")["hosts"][0]["release"]
    result = end(client)
    assert result.code == 4
    assert fleet.hosts[0].current() == hotfix
    assert "was not taken back" in result.err


@pytest.mark.full
def test_blip_of_the_link_in_the_bake_spoils_nothing(fleet: Fleet) -> None:
    fleet.push()
    fleet.configure(rollout='canary = 1\nbatch = 2\nbake = "12s"')
    fleet.release("v2")
    client = fleet.start("push", "--json")
    seen = fleet.hosts[0].current()
    wait_until(lambda: fleet.hosts[0].current() != seen, what="the canary is changed")
    time.sleep(7)  # it has looked once
    fleet.hosts[0].kill_sessions()
    result = end(client)
    assert (result.code, statuses(result)) == (0, ["done"] * 3)


def test_login_that_is_refused_for_a_while_does_not_end_the_wait(fleet: Fleet) -> None:
    fleet.push()
    host = fleet.hosts[0]
    keys = host.root / "authorized_keys"
    fleet.release("v2")
    task = host.task(100)
    client = fleet.start("push", "--json", "--host", host.written)
    wait_until(lambda: host.lines("SIGNALS_FILE"), what="it drains")
    allowed = keys.read_text()
    keys.write_text("")
    host.kill_sessions()
    wait_until(lambda: "Failed publickey" in host.log() or "Connection closed by auth" in host.log(), what="a refusal")
    keys.write_text(allowed)
    host.finish()
    result = end(client)
    assert (result.code, task.wait(60)) == (0, 0)
    task.communicate()


def test_host_under_two_names_is_told(fleet: Fleet) -> None:
    fleet.push()
    file = fleet.root / "deploy.toml"
    name = fleet.hosts[0].written
    file.write_text(file.read_text().replace(f'"{name}"', f'"{name}", "root@{name}"'))
    fleet.release("v2")
    result = fleet.run("push", "--wait-lock", "60s", timeout=30)
    assert result.code == 2
    assert "same place" in result.err
