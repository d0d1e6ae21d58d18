"""The power goes in the middle of a `retire` under systemd, while the boot changes hands: the record says what comes up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_systemd import SUPERVISOR
from test_systemd_overlap import Inside

from app import wait_until
from overlapping import overlapping
from systemd_rig import user_manager

SHIM = """#!/bin/sh
# systemctl; once armed it answers the first question with WORD in it, kills whoever asked and the runner, and then nobody any more:
# who comes up in between must not get further before the power goes.
[ ! -e {killed} ] || [ ! -e {armed} ] || exec sleep 600
/usr/bin/systemctl "$@"
code=$?
echo "$*" >> {log}
case "$*" in *'{word}'*)
    if [ -e {armed} ]; then
        echo "killed after: $*" > {killed}
        kill -KILL $PPID $(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p' {lock})
    fi ;;
esac
exit $code
"""


@pytest.fixture
def app() -> Iterator[Inside]:
    with user_manager() as manager:

        def kind(root: Path, port: int) -> Inside:
            made = Inside(root, port)
            made.manager = manager
            return made

        with overlapping(manager.root / "app", kind=kind) as made:
            assert isinstance(made, Inside)
            made.write(target=SUPERVISOR)
            yield made


def shim(app: Inside, word: str) -> Path:
    """Have all of `deployer` ask systemd through SHIM from now on."""
    home = app.root / "shim"
    home.mkdir()
    words = {name: home / name for name in ("log", "armed", "killed")}
    text = SHIM.format(**words, word=word, lock=app.host / ".deployer" / "lock")
    (home / "systemctl").write_text(text)
    (home / "systemctl").chmod(0o755)
    app.env["PATH"] = f"{home}:/usr/sbin:/usr/bin:/sbin:/bin"
    return home


@pytest.mark.full
@pytest.mark.parametrize("word", ["enable --no-reload", "disable"])
def test_power_cut_in_a_retire_leaves_a_service_that_is_what_the_record_says(app: Inside, word: str) -> None:
    home = shim(app, word)
    app.push()
    app.release("v2")
    (home / "armed").touch()
    pushing = app.start("push", "--json")
    wait_until((home / "killed").exists, what="the boot changes hands")
    pushing.kill()  # a child of ours, whom nobody but us can bury: the realm would wait for that
    pushing.communicate(timeout=60)
    app.manager.power_cut()
    (home / "armed").unlink()  # who asks from now on is answered
    app.manager.boot()
    wait_until(app.get, what="it serves again, and nobody asked for it")
    wait_until(lambda: app.status()["under_way"] is None, what="the deploy comes to its end")
    facts, serving = app.status(), wait_until(app.get, what="it serves")
    assert facts["instance"] and facts["instance"]["release"] == app.current() == serving["release"], app.engine_log()
    app.release("v3")
    assert app.push().event("push.finished")["status"] == "done"
