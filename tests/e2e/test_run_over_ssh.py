"""`deployer run` on another host: the link may break, the client may die; the job is done once, told whole, and cleaned up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import SERVICES, pids, read, wait_until
from batch import STAYS, printed, services
from fleet import Fleet, make_fleet

CONFIG = """
app = "t-app"
[build]
artifact = "dist"
[run]
env = {{ HERE = "{here}" }}
[job]
command = ["python3", "-S", "batch_job.py"]
env = {{ JOB = "{job}" }}
[services.cache]
class = "batch_services:Cache"
[services.queue]
command = ["python3", "-S", "batch_services.py"]
[services.queue.health]
alive_for = "100ms"
[target.fleet]
hosts = ["{host}"]
path = "~/batch"
[target.fleet.ssh]
heartbeat = "300ms"
silent_after = "4s"
reconnect_within = "60s"
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with make_fleet(tmp_path, 1) as made:
        for name in ("batch_job.py", "batch_services.py"):
            shutil.copy(SERVICES / name, made.dist / name)
        yield made


def begun(fleet: Fleet, job: str) -> subprocess.Popen[str]:
    """`deployer run`, once its job works there."""
    host = fleet.hosts[0]
    text = CONFIG.format(here=host.home, job=job, host=host.written)
    (fleet.root / "deploy.toml").write_text(text)
    client = fleet.start("run", "--json")
    wait_until(lambda: (host.home / "began").exists() or client.poll() is not None, what="the job works")
    assert client.poll() is None, client.communicate()
    return client


def left(fleet: Fleet) -> list[str]:
    """What is still there of the job on the host: processes and files."""
    host = fleet.hosts[0]
    mark = os.fsencode(host.home / "batch")
    marked = [pid for pid in pids() if b"DEPLOYER_INSTANCE=" in read(f"/proc/{pid}/environ")]
    found = [read(f"/proc/{pid}/cmdline") for pid in marked if mark in read(f"/proc/{pid}/environ")]
    run = host.home / "batch" / ".deployer" / "run"
    return [line.decode() for line in found] + [path.name for path in run.iterdir() if path.name not in STAYS]


def ended(fleet: Fleet, out: str) -> list[dict[str, object]]:
    wait_until(lambda: not left(fleet), 30, "nothing is left")
    told = (fleet.hosts[0].home / "services").read_text().splitlines()
    assert told == ["cache built", "queue built", "queue stop", "cache stop", "cache cleanup"]
    return [json.loads(line) for line in out.splitlines()]


def test_link_that_breaks_costs_neither_the_job_nor_a_line(fleet: Fleet) -> None:
    client = begun(fleet, "lines 50 wait lines 50")
    assert client.stdout is not None
    heard = ""
    while '"line 49"' not in heard:
        heard += client.stdout.readline()
    fleet.hosts[0].kill_sessions()
    (fleet.hosts[0].home / "go").touch()
    out = client.stdout.read()  # to its end
    assert client.wait(60) == 0, out
    events = ended(fleet, heard + out)
    lines = [f"line {number}" for number in range(50)]
    assert printed(events)[1:] == [*lines, *lines, "job: done"]
    assert list(services(events)) == ["queue", "cache"] and "link.restored" in heard + out


def test_ctrl_c_stops_the_job_there(fleet: Fleet) -> None:
    client = begun(fleet, "wait")
    os.kill(client.pid, signal.SIGINT)
    out, err = client.communicate(timeout=60)
    assert client.returncode == 130, f"{out}\n{err}"
    assert list(services(ended(fleet, out))) == ["queue", "cache"] and "was stopped" in err


def test_client_that_is_killed_is_not_needed(fleet: Fleet) -> None:
    client = begun(fleet, "wait")
    client.kill()
    client.communicate()
    (fleet.hosts[0].home / "go").touch()
    assert ended(fleet, "") == []
    past = fleet.run("history", "--json", check=0).events[0]["hosts"][0]["deploys"]
    assert [(deploy["kind"], deploy["status"]) for deploy in past] == [("run", "done")]
