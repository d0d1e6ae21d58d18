"""
A node of the pool `workers` that is given its tasks over HTTP: worker_node.py PORT NODE REGISTRY.

GET answers 503 once it leaves. POST /task?id=7&seconds=2 works and answers. What it finished it writes
to $WORK_FILE, what it had to refuse to $REFUSED_FILE.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from deployer.lifecycle import Lifecycle, NodeAgent, ShuttingDown

name, registry = sys.argv[2], sys.argv[3]
port = int(os.environ.get("PORT") or sys.argv[1])
life = Lifecycle(max_wait="2m", node=NodeAgent(registry, id=name, pools=["workers"], reconnect_first="50ms"))


def note(variable: str, text: str) -> None:
    with open(os.environ[variable], "a") as file:
        file.write(f"{text}\n")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(503 if life.shutting_down else 200)

    def do_POST(self) -> None:
        asked = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        try:
            with life.task(f"task {asked['id']}"):
                time.sleep(float(asked["seconds"]))
                note("WORK_FILE", f"{asked['id']} {name} {os.environ.get('DEPLOYER_RELEASE')}")
                self.answer(200)
        except ShuttingDown:
            note("REFUSED_FILE", f"{asked['id']} {name}")
            self.answer(503)

    def answer(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


threading.Thread(target=Server(("127.0.0.1", port), Handler).serve_forever, daemon=True).start()
sys.exit(life.run())
