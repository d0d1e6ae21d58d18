"""Overlap over SSH: on each host what it does on this machine, batch by batch, while a client of each host loses nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app import SERVICES, wait_until
from fleet import Fleet, make_fleet
from overlapping import EXAMPLES

ENV = '{ LINGER = "0.3" }'


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with make_fleet(tmp_path, 2) as made:
        for file in (SERVICES / "overlap_app.py", EXAMPLES / "lame_duck.py"):
            shutil.copy(file, made.dist)
        configure(made)
        yield made


def configure(fleet: Fleet, env: str = ENV) -> None:
    command = json.dumps(["python3", "-S", "overlap_app.py"])
    fleet.configure(
        run=f'command = {command}\nenv = {env}\nsocket = "127.0.0.1:{fleet.port}"', rollout='canary = 1\nbatch = 1\nbake = "0s"',
        more=f'\n[target.fleet.verify]\nurl = "http://127.0.0.1:{fleet.port}/"\n',
    )  # fmt: skip
    config = fleet.root / "deploy.toml"
    config.write_text('strategy = "overlap"\n' + config.read_text())


def test_hosts_overlap_batch_by_batch_and_a_broken_release_stops_at_the_first(fleet: Fleet) -> None:
    fleet.push()
    before = {name: facts["instance"]["pid"] for name, facts in fleet.status().items()}
    fleet.release("v2")
    result = fleet.push()
    assert [event["gap_ms"] for event in result.events if event["event"] == "host.finished"] == [0, 0]
    assert {event["pid"] for event in result.events if event["event"] == "drain.finished"} == set(before.values())
    now = {name: facts["instance"]["pid"] for name, facts in fleet.status().items()}
    configure(fleet, '{ BROKEN = "500" }')
    fleet.release("v3")
    fleet.push(check=7)
    assert {name: facts["instance"]["pid"] for name, facts in fleet.status().items()} == now


@pytest.mark.full
def test_detached_push_returns_when_the_new_release_serves_on_the_last_host(fleet: Fleet) -> None:
    fleet.push()
    configure(fleet, '{ LINGER = "0.4" }')
    fleet.release("v2")
    result = fleet.push("--detach")
    assert result.event("push.finished")["status"] == "detached"
    assert len([event for event in result.events if event["event"] == "switched"]) == 2
    wait_until(lambda: not any(facts["under_way"] for facts in fleet.status().values()), what="all have drained")
    assert len({facts["instance"]["release"] for facts in fleet.status().values()}) == 1


@pytest.mark.full
def test_no_batch_waits_for_the_drain_of_the_one_before(fleet: Fleet) -> None:
    fleet.push()
    with ExitStack() as stack:
        for host in fleet.hosts:
            client = stack.enter_context(host.connect(timeout=60))
            client.sendall(b"GET /slow?seconds=12 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_until(lambda: all(host.get()["busy"] == 1 for host in fleet.hosts), what="requests are in flight on both")
        fleet.release("v2")
        result = fleet.push(timeout=90)
    names = [event["event"] for event in result.events]
    assert names.index("drain.finished") > len(names) - 1 - names[::-1].index("switched")
    finished = [event for event in result.events if event["event"] == "host.finished"]
    assert [event["status"] for event in finished] == ["done", "done"]
    assert all(event["waited_s"] > 2 for event in finished)


@pytest.mark.full
def test_host_that_still_drains_is_taken_back_when_a_later_one_fails(fleet: Fleet) -> None:
    fleet.push()
    served = {name: facts["instance"]["release"] for name, facts in fleet.status().items()}
    with fleet.hosts[0].connect(timeout=60) as client:
        client.sendall(b"GET /slow?seconds=12 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        wait_until(lambda: fleet.hosts[0].get()["busy"] == 1, what="a request is in flight on the first")
        bad = fleet.hosts[1].home / "bad"
        bad.touch()
        config = fleet.root / "deploy.toml"
        config.write_text(config.read_text() + '\n[check]\ncommand = "test ! -e ~/bad"\n')
        fleet.release("v2")
        result = fleet.push(check=None, timeout=90)
        assert b" 200 " in b"".join(iter(lambda: client.recv(65536), b""))
    assert result.code in (1, 4, 7)
    assert {name: facts["instance"]["release"] for name, facts in fleet.status().items()} == served


@pytest.mark.full
def test_rollback_to_a_release_that_runs_alone_waits_for_each_batch(fleet: Fleet) -> None:
    """It is stopped, and then started: with all hosts at once nobody would serve."""
    config = fleet.root / "deploy.toml"
    overlap = config.read_text()
    config.write_text(overlap.replace('strategy = "overlap"', 'strategy = "restart"'))
    fleet.push()
    config.write_text(overlap)
    fleet.release("v2")
    fleet.push()
    result = fleet.run("rollback", "--json", check=0, timeout=90)
    first, second = (host.written for host in fleet.hosts)
    told = [(event["event"], event.get("host")) for event in result.events]
    assert told.index(("switched", first)) < told.index(("drain.started", second))
    assert [event["status"] for event in result.events if event["event"] == "host.finished"] == ["done", "done"]
