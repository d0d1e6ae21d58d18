"""What can be known before the old process is asked to stop is found before."""

from __future__ import annotations

import os

import pytest

from app import App


@pytest.mark.parametrize("command", ['["no-such-program"]', '["service.py"]', '["./bin/missing", "x"]'])
def test_a_program_that_is_not_there_fails_before_the_old_process_is_touched(app: App, command: str) -> None:
    app.push()
    before = app.get()["pid"]
    os.chmod(app.dist / "service.py", 0o644)
    app.configure(run=f"command = {command}")
    failed = app.push(check=7)
    assert "no program" in failed.event("host.finished")["error"]["title"]
    assert app.get()["pid"] == before and app.lines("SIGNALS_FILE") == []
    assert app.current() == app.get()["release"]


def test_a_process_without_a_handler_is_warned_of_before_it_is_signalled(app: App) -> None:
    app.configure(args=["--on-term", "default"])
    app.push()
    app.release("v2")
    names = app.push().names()
    assert "warning" in names and names.index("warning") < names.index("drain.finished")
    assert "no handler for SIGTERM" in app.run("doctor", check=0).out


def test_a_process_with_a_handler_is_not_warned_of(app: App) -> None:
    app.push()
    app.release("v2")
    assert "warning" not in app.push().names()
    assert "no handler" not in app.run("doctor", check=0).out


def test_doctor_misses_an_artifact_that_nothing_makes(app: App) -> None:
    app.configure(build='artifact = "nowhere"')
    assert "nowhere does not exist" in app.run("doctor", check=7).out
