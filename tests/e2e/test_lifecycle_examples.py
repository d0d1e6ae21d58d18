"""Each of examples/ with a task in flight at SIGTERM, through a real push: it is finished, and the new release serves."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app import Result, wait_until
from examples import Example, example
from load import Load
from parts import need

SECONDS = 5
"""Longer than it takes to stage a release, so that the task is in flight at the signal; on a busy machine it may not be."""
TOKEN = "12345:a-secret-of-the-test"


def in_flight(app: Example, name: str) -> dict[str, Any]:
    """The task called *name*, once /health tells of it."""
    found: dict[str, Any] = wait_until(
        lambda: [task for task in app.get()["tasks"] if task["name"] == name], what=f"{name} is in flight"
    )[0]
    return found


def result_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def ended_well(result: Result, task: str) -> None:
    """The drain was clean, nothing was lost, and whoever pushed has seen what was waited for."""
    drained = result.event("drain.finished")
    assert (drained["verdict"], drained["lost"]) == ("clean", [])
    seen = [
        task["name"] for event in result.events if event["event"] == "drain.progress" for task in event["tasks"] or []
    ]
    assert task in seen or drained["waited_s"] < 2  # it is told about once a second


def asked(app: Example, path: str) -> subprocess.Popen[str]:
    """A client of its own process that POSTs, and prints the answer."""
    need("curl")
    return subprocess.Popen(["curl", "-sS", "-X", "POST", app.url + path], stdout=subprocess.PIPE, text=True)


def test_asyncio_worker_finishes_the_job_in_hand(tmp_path: Path) -> None:
    with example(tmp_path, "asyncio-worker") as app:
        app.push()
        old = app.current()
        jobs = app.host / "shared" / "jobs"
        (jobs / "a.job").write_text(json.dumps({"seconds": SECONDS}))
        in_flight(app, "a")
        app.release("v2")
        ended_well(app.push(), "a")
        assert result_of(jobs / "a.result")["release"] == old
        (jobs / "b.job").write_text(json.dumps({"seconds": 0}))
        wait_until((jobs / "b.result").exists, what="the next job is done")
        assert result_of(jobs / "b.result")["release"] == app.current() != old


def test_fastapi_finishes_a_background_report_beside_the_new_release(tmp_path: Path) -> None:
    with example(tmp_path, "fastapi-uvicorn") as app:
        app.push()
        old = app.current()
        assert json.loads(asked(app, f"/report/r?seconds={SECONDS}").communicate(timeout=30)[0]) == {"accepted": "r"}
        in_flight(app, "report")
        app.release("v2")
        result = app.push()
        ended_well(result, "report")
        assert result.event("host.finished")["gap_ms"] == 0
        assert result_of(app.host / "shared" / "results" / "r.json")["release"] == old
        assert app.get("/")["release"] == app.current() != old


@pytest.mark.parametrize("seconds", [0, pytest.param(30, marks=[pytest.mark.full, pytest.mark.timeout(300)])])
def test_fastapi_loses_nobody_under_load(tmp_path: Path, seconds: int) -> None:
    with example(tmp_path, "fastapi-uvicorn") as app:
        app.push()
        pushes, until = 0, time.monotonic() + seconds
        with Load(app.url, rate=60, kept=8, slow_rate=2, slow_seconds=1) as load:
            while pushes < 1 or time.monotonic() < until:
                pushes += 1
                app.release(f"v{pushes + 1}")
                app.push()
            seen = load.stop()
        assert seen.losses == {}, seen.examples
        assert len(seen.releases) == pushes + 1 and seen.raw["connections"]["told_to_close"] > 0


@pytest.mark.parametrize(("name", "path"), [("flask-gunicorn", "/report/r?"), ("node-by-hand", "/?name=r&")])
def test_server_finishes_its_report(tmp_path: Path, name: str, path: str) -> None:
    if name == "node-by-hand":
        need("node")
    with example(tmp_path, name) as app:
        app.push()
        old = app.current()
        client = asked(app, f"{path}seconds={SECONDS}")
        in_flight(app, "report")
        app.release("v2")
        result = app.push()
        assert json.loads(client.communicate(timeout=30)[0])["release"] == old
        assert result.event("drain.finished")["verdict"] == "clean"
        assert result_of(app.host / "shared" / "results" / "r.json")["release"] == old
        assert app.get("/")["release"] == app.current() != old


def test_poller_answers_each_update_once(tmp_path: Path) -> None:
    with bot_api() as api, example(tmp_path, "telegram-poller", TELEGRAM_API=api.url) as app:
        app.push(env={"TELEGRAM_BOT_TOKEN": TOKEN})
        old = app.current()
        for number, seconds in ((1, SECONDS), (2, 0), (3, 0)):
            api.updates.append({"update_id": number, "message": {"chat": {"id": number}, "text": str(seconds)}})
        api.news.put(None)
        in_flight(app, "update 1")
        app.release("v2")
        result = app.push(env={"TELEGRAM_BOT_TOKEN": TOKEN})
        ended_well(result, "update 1")
        wait_until(lambda: len(api.sent) >= 3, what="the rest is answered")
        assert [(one["chat_id"], one["text"].split()[-1]) for one in api.sent] == [
            (1, old), (2, app.current()), (3, app.current()),
        ]  # fmt: skip
        assert TOKEN not in result.out + result.err + app.engine_log()


def test_poller_hangs_up_at_once(tmp_path: Path) -> None:
    with bot_api() as api, example(tmp_path, "telegram-poller", TELEGRAM_API=api.url) as app:
        app.push(env={"TELEGRAM_BOT_TOKEN": TOKEN})
        wait_until(lambda: api.polls, what="it polls")
        result = app.run("stop", "--json", check=0)
        assert result.event("drain.finished")["waited_s"] < 15  # the poll would have lasted for 30 s
        assert result.event("drain.finished")["verdict"] == "clean"


class BotApi(ThreadingHTTPServer):
    """getUpdates and sendMessage, as far as a bot can tell the difference: what is below the offset is confirmed, and forgotten."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BotHandler)
        self.updates: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.news: queue.Queue[None] = queue.Queue()
        self.polls = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class BotHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BotApi

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path.startswith(f"/bot{TOKEN}/")
        found = self.updates(asked) if self.path.endswith("/getUpdates") else self.server.sent.append(asked)
        said = json.dumps({"ok": True, "result": found}).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
        except OSError:
            self.close_connection = True  # it hung up

    def updates(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        self.server.updates = [one for one in self.server.updates if one["update_id"] >= asked["offset"]]
        if asked["timeout"] and not self.server.updates:
            self.server.polls += 1
            try:
                self.server.news.get(timeout=asked["timeout"])
            except queue.Empty:
                pass
        return self.server.updates[: asked.get("limit", 100)]

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def bot_api() -> Iterator[BotApi]:
    with BotApi() as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield api
        finally:
            api.shutdown()
