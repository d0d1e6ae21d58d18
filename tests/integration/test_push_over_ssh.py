"""A push to another host is the push that it is here: the same engine, whoever logs in, by whichever client, on every Python."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_refusals import python

import parts
from app import SERVICES
from fleet import Fleet
from read_ahead import whole
from sshd import Bed, Host, give

KINDS = ("root", "user", "unprivileged server", "sudo", "python 3.9", "python 3.13")
OFTEN = ("user", "python 3.9")
"""The rest runs with --full."""


def host_of(bed: Bed, kind: str) -> Host:
    if kind == "root":
        return bed.host()
    if kind.startswith("python"):
        return bed.host(path=[*python(bed, kind.split()[1])[:1], "/usr/bin", "/bin"])
    user = bed.user()
    if kind == "sudo":
        parts.need("sudo")
        bed.sudoer(user)
    return bed.host(daemon=user) if kind == "unprivileged server" else bed.host(user=user)


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, bed: Bed, tmp_path: Path) -> Iterator[Fleet]:
    """One host of each kind, by both clients in turn."""
    host = host_of(bed, request.param)
    made = Fleet(tmp_path, host.service_port, dict(bed.env()), bed=bed, hosts=[host])
    made.dist.mkdir()
    (made.dist / "service.py").write_text((SERVICES / "service.py").read_text())
    made.release("v1")
    made.prepare(host)
    yield made


@pytest.mark.parametrize(
    ("fleet", "client"),
    [
        *(pytest.param(kind, "paramiko", marks=[] if kind in OFTEN else pytest.mark.full) for kind in KINDS),
        pytest.param("root", "openssh", marks=pytest.mark.full),
        ("sudo", "openssh"),
    ],
    indirect=["fleet"],
)
def test_a_push_lets_the_task_in_flight_finish(fleet: Fleet, client: str, request: pytest.FixtureRequest) -> None:
    host = fleet.hosts[0]
    become = 'become = "sudo"' if "sudo" in request.node.name else ""
    fleet.configure(args=[], ssh=f'client = "{client}"', become=become)
    fleet.push()
    before = host.get()
    task = host.task(after=1)
    fleet.release("v2")
    result = fleet.push()
    assert json.loads(task.communicate(timeout=60)[0])["result"] == "done"
    assert result.event("drain.finished")["verdict"] == "clean"
    after = host.get()
    assert after["release"] == host.current() != before["release"]
    assert [line[0] for line in host.lines("SIGNALS_FILE")] == ["SIGTERM"]
    owner = os.stat(f"/proc/{after['pid']}").st_uid
    assert owner == (0 if become else host.home.stat().st_uid)
    assert fleet.push().event("push.finished")["status"] == "unchanged"
    fleet.configure(args=["--exit-at-once", "3"], ssh=f'client = "{client}"', become=become)
    assert fleet.push(check=1).event("push.finished")["status"] == "reverted"
    assert host.get()["release"] == after["release"]
    fleet.run("stop", check=0)


def test_the_link_is_cut_while_the_old_process_drains(bed: Bed, tmp_path: Path) -> None:
    host = bed.host()
    fleet = Fleet(tmp_path, host.service_port, dict(bed.env()), bed=bed, hosts=[host])
    fleet.dist.mkdir()
    (fleet.dist / "service.py").write_text((SERVICES / "service.py").read_text())
    fleet.prepare(host)
    give(host.home, None)
    fleet.configure(args=[])
    fleet.push()
    task = host.task(100)
    fleet.release("v2")
    push = whole(fleet.start("push", "--json"))
    assert push.stdout is not None
    for line in push.stdout:
        if json.loads(line)["event"] == "drain.started":
            break
    host.kill_sessions()
    host.finish()
    out, err = push.communicate(timeout=60)
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert push.returncode == 0, err
    assert events.count("drain.finished") == 1 and events.count("host.finished") == 1
    assert json.loads(task.communicate(timeout=60)[0])["result"] == "done"
