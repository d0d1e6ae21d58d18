"""`deployer push --engine ray`: a real cluster of two nodes, real servers; the same as without it, and what dies is made good."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import pytest

from app import SOURCE, command, wait_until
from ray_fleet import BoxedFleet, course, ended, fleet_on, read_until
from ray_rig import RayBox, ray_box

pytestmark = pytest.mark.timeout(120, func_only=True)  # a box may have to wait for that of another test
RAY = ("--engine", "ray")
CHECK = 'command = "test ! -e ~/bad"'
ONE_BY_ONE = 'canary = 1\nbatch = 1\nbake = "0s"'


@dataclass
class Cluster:
    """Two nodes of one CPU each, so that each of them carries half of the hosts."""

    box: RayBox
    fleet: BoxedFleet
    second: Popen[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    root = tmp_path_factory.mktemp("engine") / "app"
    with ray_box() as box, fleet_on(box, root, 4) as fleet:
        box.head(cpus=1)
        second = box.node(cpus=1)
        fleet.push(*RAY)
        yield Cluster(box, fleet, second)


@pytest.fixture
def cluster(made: Cluster, request: pytest.FixtureRequest) -> Cluster:
    """The cluster, with a release on all hosts that is not the next one, and nothing under way."""
    for host in made.fleet.hosts:
        (host.home / "bad").unlink(missing_ok=True)
    made.fleet.configure()
    made.fleet.release(f"before {request.node.name}")
    made.fleet.push()
    return made


def test_the_course_of_a_push_is_the_same_as_without_it(cluster: Cluster) -> None:
    fleet = cluster.fleet
    fleet.configure(rollout='canary = 1\nbatch = 2\nbake = "100ms"')
    courses = []
    for engine in ((), RAY):
        fleet.release(f"with {engine}")
        courses.append(course(fleet.push(*engine)))
    assert courses[0] == courses[1]
    assert len({host.current() for host in fleet.hosts}) == 1
    assert not fleet.shards()


@pytest.mark.full
def test_a_broken_canary_stops_it_just_the_same(cluster: Cluster) -> None:
    fleet = cluster.fleet
    before, asked = [host.current() for host in fleet.hosts], fleet.signals()
    (fleet.hosts[0].home / "bad").touch()
    fleet.configure(rollout=ONE_BY_ONE, check=CHECK)
    fleet.release("broken")
    courses = [course(fleet.push(*engine, check=7)) for engine in ((), RAY)]
    assert courses[0] == courses[1]
    assert [host.current() for host in fleet.hosts] == before and fleet.signals() == asked


@pytest.mark.full
def test_hosts_that_were_changed_go_back_just_the_same(cluster: Cluster) -> None:
    fleet = cluster.fleet
    before = [host.current() for host in fleet.hosts]
    (fleet.hosts[2].home / "bad").touch()
    fleet.configure(rollout=f'{ONE_BY_ONE}\nengine = "ray"', check=CHECK)
    fleet.release("worse")
    result = fleet.push(check=1)
    told = [host["status"] for host in result.event("push.finished")["hosts"]]
    assert told == ["reverted", "reverted", "failed", "untouched"]
    assert [host.current() for host in fleet.hosts] == before


@pytest.mark.full
def test_a_host_that_is_away_counts_just_the_same(cluster: Cluster) -> None:
    fleet = cluster.fleet
    fleet.hosts[3].stop()
    try:
        fleet.release("without one")
        courses = [course(fleet.push(*engine, check=6)) for engine in ((), RAY)]
        assert courses[0] == courses[1]
        fleet.configure(rollout='canary = 0\nbatch = "100%"\nmax_unreachable = 1')
        result = fleet.push(*RAY)
    finally:
        fleet.hosts[3].start()
    away = [event for event in result.events if event.get("status") == "unreachable"]
    assert [event["host"] for event in away] == [fleet.hosts[3].written]
    assert "as seen from the Ray node" in away[0]["error"]["cause"]


@pytest.mark.parametrize(
    "moment",
    ["drain.started", *(pytest.param(name, marks=pytest.mark.full) for name in ("upload.finished", "host.started"))],
)
def test_hosts_of_killed_shards_are_picked_up_again_and_pushed_once(cluster: Cluster, moment: str) -> None:
    fleet = cluster.fleet
    asked, started = fleet.signals(), fleet.starts()
    tasks = [host.task(60) for host in fleet.hosts]
    fleet.release(f"killed at {moment}")
    client = fleet.start("push", "--json", *RAY)
    lines = read_until(client, moment, len(fleet.hosts))
    fleet.kill_shards()
    lines += read_until(client, "link.restored", len(fleet.hosts))
    wait_until(lambda: fleet.signals() == [count + 1 for count in asked], what="every host drains")
    for host in fleet.hosts:
        host.finish()
    result = ended(client, lines)
    assert (result.code, result.event("push.finished")["status"]) == (0, "done"), result.err
    assert fleet.signals() == [count + 1 for count in asked]
    assert fleet.starts() == [count + 1 for count in started]
    assert _numbers_rise(result.out)
    assert [task.wait(60) for task in tasks] == [0] * len(tasks)


@pytest.mark.full  # for the half minute that a shard may be silent
def test_hosts_of_a_shard_that_stands_still_are_picked_up_by_another(cluster: Cluster) -> None:
    fleet = cluster.fleet
    asked = fleet.signals()
    tasks = [host.task(100) for host in fleet.hosts]
    fleet.release("still")
    client = fleet.start("push", "--json", *RAY)
    lines = read_until(client, "drain.started", len(fleet.hosts))
    os.kill(fleet.shards()[0], signal.SIGSTOP)
    lines += read_until(client, "link.restored", 2)
    for host in fleet.hosts:
        host.finish()
    result = ended(client, lines)
    assert (result.code, result.names().count("link.lost")) == (0, 2), result.err
    assert fleet.signals() == [count + 1 for count in asked]
    assert _numbers_rise(result.out)
    assert [task.wait(60) for task in tasks] == [0] * len(tasks)


def _numbers_rise(out: str) -> bool:
    """Whether no event of a host was told twice, or after a later one."""
    seen: dict[str, list[int]] = {}
    for event in map(json.loads, out.splitlines()):
        if event.get("seq"):
            seen.setdefault(event["host"], []).append(event["seq"])
    return bool(seen) and all(numbers == list(range(1, len(numbers) + 1)) for numbers in seen.values())


def test_hosts_go_on_by_themselves_when_the_client_is_killed(cluster: Cluster) -> None:
    fleet = cluster.fleet
    before, asked = fleet.hosts[0].current(), fleet.signals()
    tasks = [host.task(60) for host in fleet.hosts]
    fleet.release("alone")
    client = fleet.start("push", "--json", *RAY)
    read_until(client, "drain.started", len(fleet.hosts))
    client.kill()
    client.communicate()
    wait_until(lambda: not fleet.shards(), 30, "the shards end with their client")
    for host in fleet.hosts:
        host.finish()
    wait_until(fleet.idle, 30, "the hosts are done")
    assert fleet.hosts[0].current() != before and len({host.current() for host in fleet.hosts}) == 1
    assert fleet.signals() == [count + 1 for count in asked]
    assert [task.wait(60) for task in tasks] == [0] * len(tasks)


def test_no_secret_stays_on_the_cluster(cluster: Cluster) -> None:
    fleet = cluster.fleet
    fleet.configure(run='secrets = ["TOKEN"]')
    fleet.release("with a secret")
    client = fleet.on.popen(
        command("push", "--json", *RAY), cwd=str(fleet.root), env={**fleet.env, "TOKEN": "hush-9f3c1e"}
    )
    lines = read_until(client, "drain.started")
    told = " ".join(cluster.box.processes())
    assert ended(client, lines).code == 0
    assert "ray::Shard" in told and "hush-9f3c1e" not in told
    logs = [file for file in (cluster.box.root / "ray").rglob("*") if file.is_file()]
    assert [str(file) for file in logs if b"hush-9f3c1e" in file.read_bytes()] == [] and len(logs) > 5


@pytest.mark.full
def test_a_cluster_that_does_not_answer_is_told_and_changes_nothing(cluster: Cluster) -> None:
    fleet = cluster.fleet
    before = [host.current() for host in fleet.hosts]
    fleet.configure(rollout='engine = "ray"\nray_address = "127.0.0.1:6399"')
    fleet.release("nowhere")
    result = fleet.push(check=6)
    assert result.event("push.finished")["status"] == "failed"
    assert "no Ray cluster answers at 127.0.0.1:6399" in result.err and "nothing was changed" in result.err
    fleet.configure(rollout=f'engine = "ray"\nray_address = "{fleet.hosts[0].written}"')  # that is an sshd
    assert "does not speak as Ray does" in fleet.push(check=6).err
    assert [host.current() for host in fleet.hosts] == before


# What follows leaves the cluster as no other test wants it.


def test_a_node_that_dies_in_the_middle_costs_no_host_a_second_push(cluster: Cluster) -> None:
    fleet = cluster.fleet
    asked, started = fleet.signals(), fleet.starts()
    tasks = [host.task(60) for host in fleet.hosts]
    fleet.release("half of it")
    client = fleet.start("push", "--json", *RAY)
    lines = read_until(client, "drain.started", len(fleet.hosts))
    cluster.box.kill(cluster.second)
    lines += read_until(client, "link.restored", 2)  # half of the hosts: each node carried its share
    for host in fleet.hosts:
        host.finish()
    result = ended(client, lines)
    assert (result.code, result.event("push.finished")["status"]) == (0, "done"), result.err
    assert result.names().count("link.lost") == 2
    assert fleet.signals() == [count + 1 for count in asked]
    assert fleet.starts() == [count + 1 for count in started]
    assert _numbers_rise(result.out)
    assert [task.wait(60) for task in tasks] == [0] * len(tasks)


@pytest.mark.full
def test_a_node_with_another_deployer_is_named_and_nothing_is_changed(cluster: Cluster, tmp_path: Path) -> None:
    fleet, box = cluster.fleet, cluster.box
    before = [host.current() for host in fleet.hosts]
    other = tmp_path / "src"
    shutil.copytree(SOURCE, other, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "deployer" / "retry.py").write_text("# another one\n")
    ours, box.env["PYTHONPATH"] = box.env["PYTHONPATH"], str(other)
    try:
        box.node(cpus=1)
    finally:
        box.env["PYTHONPATH"] = ours
    fleet.release("not so")
    result = fleet.push(*RAY, check=6)
    assert "the Ray node 127.0.0.1 cannot carry this rollout" in result.err
    assert "install the same deployer on every node" in result.err
    assert [host.current() for host in fleet.hosts] == before
