"""NOTIFY_SOCKET: what the app says about itself is heard and shown; and everything works at the end of a very long path."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import App, Result, heard, make_app, wait_until
from victims import environment_of, keeper, kill, signals_to_mains

TALKATIVE = """
import os, runpy, socket, sys

def say(text):
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as talk:
        talk.sendto(text.encode(), "\\0" + address[1:] if address[0] == "@" else address)

say("READY=1\\nSTATUS=working on page 7")
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    say("STATUS=still on page 7")
    os.read(reader, 1)  # who has gone when it is heard is nobody's child any more: it goes when the app does
    os._exit(0)
sys.argv = ["service.py", *sys.argv[1:]]
runpy.run_path("service.py", run_name="__main__")
"""


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[App]:
    root = tmp_path / ("deep-" * 15) / ("deeper-" * 12)
    root.mkdir(parents=True)
    with make_app(root) as app:
        assert len(str(app.host)) > 150
        yield app


def talk(app: App) -> None:
    (app.dist / "talkative.py").write_text(TALKATIVE)
    command = json.dumps([sys.executable, "-S", "talkative.py", "--port", str(app.port)])
    app.configure(run=f"command = {command}")


def test_what_the_app_says_is_shown(app: App) -> None:
    talk(app)
    app.push()
    assert app.status()["instance"]["status"] == "still on page 7"
    assert "still on page 7" in app.run("status", check=0).out


def test_whole_job_works_below_a_very_long_path(deep: App) -> None:
    app = deep
    talk(app)
    app.push()
    pid = app.get()["pid"]
    assert environment_of(pid)["NOTIFY_SOCKET"].startswith("@")
    assert app.status()["instance"]["status"] == "still on page 7"
    client = app.task(100)
    app.release("v2")
    pushing = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="the signal")
    attaching = app.start("attach", "--json")
    said = heard(attaching, "drain.started")
    app.finish()
    attached = Result(0, said + attaching.communicate(timeout=60)[0], "", 0)
    assert attaching.returncode == 0
    out, err = pushing.communicate(timeout=60)
    assert pushing.returncode == 0, out + err
    assert attached.event("host.finished")["status"] == "done"
    assert json.loads(client.communicate(timeout=60)[0])["result"] == "done"
    assert signals_to_mains(app) == {str(pid): 1}
    kill(keeper(app))
    assert app.status()["instance"]["pid"] == app.get()["pid"]
    assert "serving" in app.run("logs", "-n", "5", check=0).out
    app.run("stop", check=0)
