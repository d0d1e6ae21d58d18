"""A program with http.server: GET /, /slow (3 s), /health. Connections are kept."""

import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deployer.lifecycle import Lifecycle

life = Lifecycle(linger="4s")  # longer than a busy machine stands still between two lines of a test


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(3)
        code, said = life.health() if self.path == "/health" else (200, {})
        body = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    life.http_server(ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler))
    life.run()
