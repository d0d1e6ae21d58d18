"""A crowd at one target: every push ends in a clear result, one release runs, and no two hands were ever on it at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter

import pytest
from disks import told_clearly, whole

from app import App, Result, alive, wait_until
from evidence import faults, running
from victims import keepers, kill, rows, signals_to_mains, unfinished

CROWD = 20
QUEUE = 8
HELD_BY = re.compile(r"cause: \w+ \S+ by \S+@\S+, for .+ \(pid \d+\)")


def artifact(app: App, number: int) -> str:
    """An artifact of its own for each push."""
    path = app.root / f"artifact-{number}"
    shutil.copytree(app.dist, path)
    (path / "version.txt").write_text(f"crowd {number}")
    return str(path)


def push_all(app: App, *options: str, count: int = CROWD) -> list[subprocess.Popen[str]]:
    artifacts = [artifact(app, number) for number in range(count)]
    return [app.start("push", "--json", "--artifact", path, *options) for path in artifacts]


def ended(clients: list[subprocess.Popen[str]], within: float = 100.0) -> list[Result]:
    deadline, found = time.monotonic() + within, []
    for client in clients:
        out, err = client.communicate(timeout=max(1.0, deadline - time.monotonic()))
        found.append(Result(client.returncode, out, err, 0))
    return found


def clear(result: Result) -> None:
    """Assert that a result is one of the two that a crowd may have, and says who holds the lock where it was refused."""
    assert faults(result) == []
    told_clearly(result)
    assert result.code in (0, 3), f"exit {result.code}:\n{result.out}\n{result.err}"
    if result.code == 3:
        assert HELD_BY.search(result.err), result.err


def one_hand_at_a_time(app: App) -> None:
    """Assert that one release runs, that the record is whole, and that the deploys on it never overlapped."""
    wait_until(lambda: not unfinished(app), what="every deploy is ended")
    whole(app)
    health = running(app)
    assert health["release"] == app.current()
    mains = [int(line[2]) for line in app.lines("STARTS_FILE") if line[1] == "main"]
    assert [pid for pid in mains if alive(pid)] == [health["pid"]]
    assert len(keepers(app)) == 1
    assert set(signals_to_mains(app).values()) <= {1}, signals_to_mains(app)
    deploys = rows(app, "SELECT * FROM deploys ORDER BY started_at")
    times = [moment for deploy in deploys for moment in (deploy["started_at"], deploy["ended_at"])]
    assert times == sorted(times), deploys
    assert all(deploy["status"] and deploy["exit_code"] is not None for deploy in deploys)
    told = Counter(
        row["deploy"] for row in rows(app, "SELECT deploy FROM events WHERE event LIKE '%\"host.finished\"%'")
    )
    assert told == dict.fromkeys((deploy["id"] for deploy in deploys), 1)
    swapped = [deploy for deploy in deploys if deploy["status"] == "done" and deploy["kind"] != "stop"]
    assert swapped[-1]["release"] == health["release"]


def test_twenty_pushes_at_once_on_a_host_where_nothing_was_ever_pushed(app: App) -> None:
    results = ended(push_all(app))
    for result in results:
        clear(result)
    assert 0 in [result.code for result in results]
    one_hand_at_a_time(app)


def test_pushes_that_wait_for_their_turn_are_all_done_one_after_the_other(app: App) -> None:
    app.push()
    results = ended(push_all(app, "--wait-lock", "2m", count=QUEUE))
    assert [result.code for result in results] == [0] * QUEUE, [result.err for result in results if result.code]
    for result in results:
        clear(result)
    one_hand_at_a_time(app)
    assert len(rows(app, "SELECT id FROM deploys WHERE status='done'")) == QUEUE + 1
    assert sum(signals_to_mains(app).values()) == QUEUE  # each old process its one SIGTERM


@pytest.mark.full
def test_pushes_at_once_while_clients_of_theirs_are_killed(app: App) -> None:
    app.push()
    clients = push_all(app, "--wait-lock", "1m", count=8)
    doomed = clients[::3]
    for number, client in enumerate(doomed):
        wait_until(
            lambda done=number: len(rows(app, "SELECT id FROM deploys")) > done + 1, what="some pushes are through"
        )
        os.kill(client.pid, signal.SIGKILL)
    results = ended(clients)
    for client, result in zip(clients, results, strict=True):
        if client not in doomed or client.returncode != -signal.SIGKILL:
            assert result.code == 0, result.err
            clear(result)
    one_hand_at_a_time(app)


@pytest.mark.full
@pytest.mark.parametrize("dies", ["nobody", "keeper"])
def test_every_command_at_once_ends_in_a_clear_result(app: App, dies: str) -> None:
    app.push()
    app.release("v2")
    app.push()
    commands = [["push", "--artifact", artifact(app, number)] for number in range(3)]
    commands += [["restart"], ["rollback"], ["stop"], ["start"], ["status"], ["plan"], ["history"], ["releases"]]
    clients = {" ".join(words[:1]) + f" {n}": app.start(*words, "--json") for n, words in enumerate(commands)}
    if dies == "keeper":
        kill(keepers(app)[0])
    results = dict(zip(clients, ended(list(clients.values())), strict=True))
    for name, result in results.items():
        assert faults(result) == [], name
        told_clearly(result)
        looks = name.split()[0] in ("status", "plan", "history", "releases")
        assert result.code in ((0,) if looks else (0, 3, 2) if name.startswith("rollback") else (0, 3)), (
            name + result.err
        )
        assert result.code != 3 or HELD_BY.search(result.err), result.err
        if name.startswith("status"):
            assert json.loads(result.out)["hosts"][0]["error"] is None, result.out
    app.run("start", "--wait-lock", "30s", check=0)
    wait_until(app.get, what="the service serves")
    one_hand_at_a_time(app)
