"""Whoever asks systemd dies right after the answer, at each job in turn: the service ends up running, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_systemd import SUPERVISOR

from app import wait_until
from systemd_rig import InsideApp, app_in, user_manager
from victims import signals_to_mains

SHIM = """#!/bin/sh
# systemctl; at the COUNTth question of the deploy it kills whoever asked, once it was answered.
/usr/bin/systemctl "$@"
code=$?
echo "$*" >> {log}
if [ -e {armed} ] && [ "$(wc -l < {log})" -eq {count} ]; then
    echo "killed after: $*" > {killed}
    kill -KILL $PPID {more}
fi
exit $code
"""
RUNNER = "$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' {lock})"


@pytest.fixture
def app() -> Iterator[InsideApp]:
    with user_manager() as manager, app_in(manager) as made:
        made.configure(more=SUPERVISOR)
        yield made


def shim(app: InsideApp, count: int, more: str = "") -> Path:
    """Have all of `deployer` ask systemd through SHIM from now on."""
    home = app.root / "shim"
    home.mkdir(exist_ok=True)
    words = {name: home / name for name in ("log", "armed", "killed")}
    (home / "systemctl").write_text(SHIM.format(**words, count=count, more=more))
    (home / "systemctl").chmod(0o755)
    app.env["PATH"] = f"{home}:/usr/sbin:/usr/bin:/sbin:/bin"
    return home


def sweep(app: InsideApp, count: int, broken: bool, everybody: bool) -> list[str]:
    """
    Push with a task in flight, and have whoever asks systemd (*everybody*: all of ours) die after question *count* of the deploy.

    What is not as promised in the end, each with all that was asked: nothing.
    """
    more = RUNNER.format(lock=app.host / ".deployer" / "lock") if everybody else ""
    home = shim(app, 0)
    app.push()
    old, client = app.get(), app.task(100, name="work")
    app.release("v2")
    if broken:
        app.configure(
            args=["--health", "never-ready"], health=f'url = "{app.url}/health"\nready_within = "2s"', more=SUPERVISOR
        )
    wait_until(
        lambda: not app.manager.systemctl("is-active", "t-app-deployer.service", check=False).out.startswith("active")
    )
    (home / "log").write_text("")
    shim(app, count, more)
    (home / "armed").touch()
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE") or pushing.poll() is not None, what="it was asked to stop")
    app.finish()
    answer = client.communicate(timeout=60)[0]
    pushing.communicate(timeout=120)
    (home / "armed").unlink()  # who looks now shall live
    wait_until(lambda: app.status()["under_way"] is None, what="the deploy comes to its end")
    facts = app.status()
    serving = wait_until(app.get, what="it serves")
    told = (home / "log").read_text()
    killed = (home / "killed").exists()
    twice = signals_to_mains(app)
    app.release("v3")
    app.configure(args=[], more=SUPERVISOR)
    last = app.push().event("push.finished")["status"]
    wrong = {
        "the task was lost": '"done"' not in answer,
        f"serves: {serving}, on record: {facts['instance']}": (
            not facts["instance"] or not facts["instance"]["release"] == serving["release"] == facts["current"]
        ),
        "the old release serves again, by another process": (
            not broken and killed and serving["release"] == old["release"] and serving["pid"] != old["pid"]
        ),
        f"a second SIGTERM: {twice}": any(count > 1 for count in twice.values()),
        f"the next push ends {last}": last != "done",
    }
    return [f"{problem}\n{told}" for problem, found in wrong.items() if found]


OFTEN = [8]
"""After the swap's job; --full takes all of them."""


def points(last: int) -> list[object]:
    return [number if number in OFTEN else pytest.param(number, marks=pytest.mark.full) for number in range(2, last)]


@pytest.mark.parametrize("count", points(18))
def test_all_of_ours_die_after_a_question(app: InsideApp, count: int) -> None:
    assert sweep(app, count, broken=False, everybody=True) == []


@pytest.mark.full
@pytest.mark.parametrize("count", points(18))
def test_whoever_asked_dies_after_a_question(app: InsideApp, count: int) -> None:
    assert sweep(app, count, broken=False, everybody=False) == []


@pytest.mark.full
@pytest.mark.parametrize("count", points(30))
def test_all_of_ours_die_after_a_question_of_a_revert(app: InsideApp, count: int) -> None:
    assert sweep(app, count, broken=True, everybody=True) == []
