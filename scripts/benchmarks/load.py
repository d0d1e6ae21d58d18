"""
An open-loop load: requests leave on schedule whatever the answers do, none is tried again, and every loss has a class.

    python scripts/benchmarks/load.py http://127.0.0.1:3001 --rate 200 --kept 16 --slow-rate 2      (or unix:/run/app.sock)

Until SIGTERM, SIGINT or --for; then the requests in flight are waited for, and one JSON object is printed. Latency counts
from the moment in which a request was due, so that what waits for a stalled service is not left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from load_connection import Connection, Loss, connect
from load_figures import Record, figures


@dataclass
class Load:
    """The streams of requests to one address; `records` and `counts` are what became of them."""

    options: argparse.Namespace
    records: list[Record] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("told_to_close", "closed_idle", "no_kept_free", "slow_at_once"), 0)
    )
    late: float = 0.0

    def __post_init__(self) -> None:
        self.host, self.address = where(self.options.url)
        self._kept: deque[Connection | None] = deque([None] * self.options.kept)
        self._tasks: set[asyncio.Task[None]] = set()
        self._slow = 0
        self._share = 0.0
        self._told = False

    async def run(self) -> None:
        """Until told to stop, and all in flight have ended."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if self.options.mark:
            threading.Thread(target=self._read_marks, args=(loop, stop.set), daemon=True).start()
        self.began = time.monotonic()
        senders = [self._send(self.options.rate, self._quick), self._send(self.options.slow_rate, self._begin_slow)]
        running = [asyncio.create_task(sender) for sender in senders]
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), self.options.seconds)
        self.ended = time.monotonic()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, *self._tasks, return_exceptions=True)

    async def _send(self, rate: float, begin: Callable[[float], None]) -> None:
        began, number = time.monotonic(), 0
        while rate:
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.late = max(self.late, time.monotonic() - due)
            begin(due)
            number += 1

    def _quick(self, due: float) -> None:
        self._share += self.options.fresh_share
        fresh = self._share >= 1
        self._share -= fresh
        if not fresh and not self._kept:  # all are busy, and the schedule waits for nobody
            self.counts["no_kept_free"] += 1
            fresh = True
        kind = "fresh" if fresh else "kept"
        slot = None if fresh else self._kept.popleft()
        self._start(self._request(due, kind, slot, self.options.path, self.options.timeout))

    def _begin_slow(self, due: float) -> None:
        seconds = self.options.slow_seconds
        self._start(self._request(due, "slow", None, f"/slow?seconds={seconds:g}", self.options.timeout + seconds))

    def _start(self, request: Any) -> None:
        task = asyncio.get_running_loop().create_task(request)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _request(self, due: float, kind: str, used: Connection | None, path: str, limit: float) -> None:
        self._slow += kind == "slow"
        self.counts["slow_at_once"] = max(self.counts["slow_at_once"], self._slow)
        if used is not None and not used.usable:
            self.counts["told_to_close" if used.told_to_close else "closed_idle"] += 1
            used = None
        record = Record(due, kind, reused=used is not None)
        held = [] if used is None else [used]
        try:
            async with asyncio.timeout(limit):
                if not held:
                    held.append(await connect(self.address))
                text = f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n" + "Connection: close\r\n" * (kind != "kept")
                record.answered(await held[0].ask(text.encode() + b"\r\n"))
        except TimeoutError:
            record.lost("timeout", f"no answer in {limit:g} s")
        except Loss as loss:
            record.lost(*loss.args)
        except (ConnectionRefusedError, FileNotFoundError) as error:
            record.lost("refused", str(error))
        except OSError as error:
            record.lost("reset" if isinstance(error, ConnectionError) else "other", str(error))
        record.done = time.monotonic()
        self._slow -= kind == "slow"
        self.records.append(record)
        self._settle(kind, held[0] if held else None, record)

    def _settle(self, kind: str, connection: Connection | None, record: Record) -> None:
        if connection is not None and (kind != "kept" or record.loss or not connection.usable):
            connection.close()
        if kind == "kept":
            self._kept.append(None if record.loss and record.loss != "5xx" else connection)
        if not self._told and record.loss is None and kind != "slow":
            self._told = True
            print("load: answers come", file=sys.stderr, flush=True)

    def _read_marks(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
        for line in sys.stdin:
            word, _, name = line.strip().partition(" ")
            if word == "mark" and name:
                self.marks.append((time.monotonic(), name))
        with suppress(RuntimeError):  # it may have ended by itself
            loop.call_soon_threadsafe(stop)  # whoever gave the marks has gone

    def result(self) -> dict[str, Any]:
        """What is printed: the figures of the whole, of each phase, and of this process itself."""
        times = os.times()
        whole = figures(self.records, [(self.began, self.ended)])
        edges = [(self.began, "start"), *self.marks, (self.ended, "")]
        windows: dict[str, list[tuple[float, float]]] = {}
        for (at, name), (until, _) in pairwise(edges):
            windows.setdefault(name, []).append((at, until))
        phases = {name: figures(self.records, times) for name, times in windows.items()}
        own = {
            "connections": self.counts,
            "late_ms": round(self.late * 1000, 1),
            "cpu_s": round(times.user + times.system, 2),
        }
        return {**whole, **own, **({"phases": phases} if self.options.mark else {})}


def where(url: str) -> tuple[str, Any]:
    """The Host header and the address of http://HOST:PORT or unix:/PATH."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return "localhost", parts.path
    found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    return parts.netloc, found[0][4][:2]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("url", help="http://HOST:PORT or unix:/PATH")
    parser.add_argument("--path", default="/", help="of the quick requests")
    parser.add_argument("--rate", type=float, default=200.0, help="quick requests per second")
    parser.add_argument("--kept", type=int, default=16, help="connections that are kept alive")
    parser.add_argument(
        "--fresh-share", type=float, default=0.5, help="of the quick requests, on connections of their own"
    )
    parser.add_argument("--slow-rate", type=float, default=0.0, help="slow requests begun per second")
    parser.add_argument("--slow-seconds", type=float, default=5.0, help="each /slow?seconds=S")
    parser.add_argument(
        "--timeout", type=float, default=10.0, help="seconds for an answer, beyond what a slow one takes"
    )
    parser.add_argument("--for", type=float, dest="seconds", metavar="S", help="end by itself")
    parser.add_argument(
        "--mark", action="store_true", help='read "mark NAME" from stdin: a phase begins, or goes on; EOF ends it'
    )
    load = Load(parser.parse_args())
    asyncio.run(load.run())
    print(json.dumps(load.result()), flush=True)


if __name__ == "__main__":
    main()
