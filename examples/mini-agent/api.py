"""
mini-agent: a small service with long tasks, in Python without packages. `api.js` is the same in Node.

  POST /task {"name": "callClaude", "seconds": 20}   works, then answers with the result
  GET  /health                                        what deployer reads (docs: the /health contract)

On SIGTERM it takes no new task, finishes those in flight (for up to ten minutes), and exits.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MAX_WAIT = 10 * 60  # seconds; longer than the longest task, shorter than deployer's ceiling
VERSION_FILE = Path(__file__).with_name("VERSION")
VERSION = VERSION_FILE.read_text().strip() if VERSION_FILE.exists() else "dev"


def now() -> str:
    """This moment, as /health and the log write it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")  # noqa: UP017 (3.9)


class Agent:
    """The tasks in flight, and whether new ones are taken."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.tasks: dict[str, dict[str, str]] = {}
        self.count = 0
        self.stopping = False

    def begin(self, name: str) -> str | None:
        """A new task's id; None while shutting down."""
        with self.changed:
            if self.stopping:
                return None
            self.count += 1
            key = f"t{self.count}"
            self.tasks[key] = {"id": key, "name": name, "started_at": now()}
            return key

    def end(self, key: str) -> None:
        """The task's answer has left."""
        with self.changed:
            del self.tasks[key]
            self.changed.notify_all()

    def health(self) -> tuple[int, dict[str, Any]]:
        with self.changed:
            tasks = list(self.tasks.values())
        return (503 if self.stopping else 200), {
            "status": "shutting_down" if self.stopping else "ok",
            "busy": len(tasks),
            "tasks": tasks,
            "release": os.environ.get("DEPLOYER_RELEASE"),
            "version": VERSION,
            "pid": os.getpid(),
        }

    def stop(self) -> int:
        """Take no new task and wait for those in flight; returns the exit code."""
        with self.changed:
            self.stopping = True
            return 0 if self.changed.wait_for(lambda: not self.tasks, timeout=MAX_WAIT) else 1


class Handler(BaseHTTPRequestHandler):
    agent: Agent

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(*self.agent.health())
        else:
            self.answer(404, {"error": "not found"})

    def do_POST(self) -> None:
        if self.path != "/task":
            return self.answer(404, {"error": "not found"})
        try:
            task = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        except ValueError:
            return self.answer(400, {"error": "not JSON"})
        self.work(task.get("name", "callClaude"), float(task.get("seconds", 1)))

    def work(self, name: str, seconds: float) -> None:
        """Work, write the result down, answer; only then is the task over."""
        key = self.agent.begin(name)
        if key is None:
            return self.answer(503, {"error": "shutting down, try again in a moment"})
        try:
            time.sleep(seconds)
            result = f"{name} thought for {seconds:g} s"
            done = {"task": key, "name": name, "result": result, "version": VERSION, "pid": os.getpid()}
            if "RESULTS_FILE" in os.environ:
                with open(os.environ["RESULTS_FILE"], "a") as results:
                    results.write(json.dumps(done) + "\n")
            self.answer(200, done)
        finally:
            self.agent.end(key)

    def answer(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: /health comes five times a second."""


def listen() -> ThreadingHTTPServer:
    """On the socket that the supervisor holds for us (fd 3): it outlives us, nobody is refused. Else on $PORT."""
    inherited = os.environ.get("LISTEN_FDS") and os.environ.get("LISTEN_PID") == str(os.getpid())
    address = ("127.0.0.1", int(os.environ.get("PORT", "3001")))
    server = ThreadingHTTPServer(address, Handler, bind_and_activate=not inherited)
    if inherited:
        server.socket.close()
        server.socket = socket.socket(fileno=3)
    return server


def wait_for_sigterm(agent: Agent) -> None:
    signal.sigwait({signal.SIGTERM})
    print(f"{now()} SIGTERM: {len(agent.tasks)} task(s) in flight", flush=True)


def note_further_sigterms(agent: Agent) -> None:
    while True:
        wait_for_sigterm(agent)


def main() -> int:
    # Blocked in every thread and taken by sigwait: no SIGTERM can slip in between a check and a wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    agent = Handler.agent = Agent()
    threading.Thread(target=listen().serve_forever, daemon=True).start()
    print(f"{now()} mini-agent {VERSION} serves, pid {os.getpid()}", flush=True)
    wait_for_sigterm(agent)
    threading.Thread(target=note_further_sigterms, args=(agent,), daemon=True).start()
    return agent.stop()


if __name__ == "__main__":
    sys.exit(main())
