"""/health of the old process is a witness, not the judge: the process table decides, whatever it says. (Case 5.)"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from app import App, alive, clean_environment, wait_until

MODES = ("missing", "refuse", "hang", "garbage", "enormous", "drip", "banner", "never-ready", "impostor")
ALIKE = [pytest.param(mode, marks=pytest.mark.full) for mode in ("error", "silent", "always-ok")]


@contextmanager
def stranger(app: App, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """The service, started by somebody else, so that it may misbehave from the start."""
    names = ("SIGNALS_FILE", "WORK_FILE", "STARTS_FILE")
    env = {**clean_environment(), **{name: str(app.root / f"{name.lower()}.txt") for name in names}}
    argv = [sys.executable, "-S", "service.py", "--port", str(app.port), *args]
    process = subprocess.Popen(argv, cwd=app.dist, env=env, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None and b"serving" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()


def moment(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


@pytest.mark.parametrize("mode", [*MODES, *ALIKE])
def test_push_is_as_quick_as_the_process_whatever_its_health_says(app: App, mode: str) -> None:
    with stranger(app, "--health", mode, "--task", "3") as old:
        (app.root / "app.pid").write_text(str(old.pid))
        app.configure(
            health=f'url = "{app.url}/health"\ninterval = "50ms"\ntimeout = "400ms"',
            adopt=f'pidfile = "{app.root}/app.pid"',
        )
        result = app.push()
        drained = result.event("drain.finished")
        assert drained["verdict"] == "clean" and drained["lost"] == [] and not alive(old.pid)
        assert [line[:3] for line in app.lines("SIGNALS_FILE")] == [["SIGTERM", "main", str(old.pid)]]
        [done] = app.lines("WORK_FILE")
        assert 0 <= moment(drained) - float(done[3]) + 0.01 < 4
        assert app.get()["release"] == app.current()


def test_hanging_health_is_told_as_it_is_and_progress_goes_on(app: App) -> None:
    with stranger(app, "--health", "hang", "--task", "7") as old:
        (app.root / "app.pid").write_text(str(old.pid))
        app.configure(
            health=f'url = "{app.url}/health"\ninterval = "50ms"\ntimeout = "400ms"',
            adopt=f'pidfile = "{app.root}/app.pid"',
        )
        told = [event for event in app.push().events if event["event"] == "drain.progress"]
    assert told
    assert {(event["health"], event["busy"], event["heard"]) for event in told} == {("timeout", None, None)}
    assert all(event["processes"][0]["pid"] == old.pid for event in told)


def test_old_process_that_closes_its_port_first_is_still_waited_for(app: App) -> None:
    text = (
        "import os, signal, socket, sys, time\n"
        "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "def stop(*_):\n"
        "    s.close(); time.sleep(1.5); open(os.environ['WORK_FILE'], 'a').write('done\\n'); os._exit(0)\n"
        f"signal.signal(signal.SIGTERM, stop); s.bind(('127.0.0.1', {app.port})); s.listen()\n"
        "while True:\n"
        "    c, _ = s.accept(); c.recv(9999); c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n'); c.close()\n"
    )
    (app.dist / "closing.py").write_text(text)
    app.configure(run=f"command = {json.dumps([sys.executable, '-S', 'closing.py'])}")
    app.push()
    app.configure(run="", args=[])
    assert app.push().event("drain.finished")["waited_s"] > 1.4
    assert app.lines("WORK_FILE") == [["done"]]


class Impostor(http.server.BaseHTTPRequestHandler):
    """Somebody else who says that all is well and nothing is going on."""

    def do_GET(self) -> None:
        body = json.dumps({"status": "ok", "busy": False, "tasks": [], "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.full
def test_another_process_that_answers_on_the_port_ends_no_drain(app: App) -> None:
    health = f'url = "{app.url}/health"\ninterval = "50ms"'
    run = "command = " + json.dumps([sys.executable, "-S", "service.py", "--no-listen", "--task", "3"])
    app.configure(run=run, health='alive_for = "100ms"')
    app.push()
    app.configure(run=run.replace('"--no-listen"', f'"--port", "{app.port}"'), health=health)
    push = app.start("push", "--json")
    wait_until(lambda: app.lines("SIGNALS_FILE"), what="the drain has begun")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", app.port), Impostor)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    wait_until(lambda: app.get()["status"] == "ok", what="the impostor answers")
    server.shutdown()
    server.server_close()
    out, err = push.communicate(timeout=60)
    assert push.returncode == 0, out + err
    assert [line[:2] for line in app.lines("WORK_FILE")] == [["done", "main"]]
    assert float(app.lines("STARTS_FILE")[1][3]) >= float(app.lines("WORK_FILE")[0][3])


@pytest.mark.full
def test_lost_work_is_named_from_the_last_answer_even_if_health_went_silent(app: App) -> None:
    text = (
        "import json, signal, socket, time\n"
        "end = 1e9\n"
        "def asked(*_):\n"
        "    global end\n"
        "    end = time.monotonic() + 0.7\n"
        "signal.signal(signal.SIGTERM, asked)\n"
        "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        f"s.bind(('127.0.0.1', {app.port})); s.listen()\n"
        "body = json.dumps({'busy': 1, 'tasks': [{'id': 't1', 'name': 'callClaude', 'started_at': time.time()}]})\n"
        "while True:\n"
        "    c, _ = s.accept(); c.recv(9999)\n"
        "    if time.monotonic() > end: time.sleep(1e6)\n"
        "    c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n' + body.encode()); c.close()\n"
    )
    (app.dist / "silent.py").write_text(text)
    health = f'url = "{app.url}/health"\ninterval = "50ms"\ntimeout = "300ms"'
    app.configure(run=f"command = {json.dumps([sys.executable, '-S', 'silent.py'])}", health=health)
    app.push()
    app.configure(run="", args=[], drain='ceiling = "3s"', health=health)
    result = app.push(check=5)
    assert [task["name"] for task in result.event("drain.finished")["lost"]] == ["callClaude"]
    assert "timeout" in [event["health"] for event in result.events if event["event"] == "drain.progress"]
