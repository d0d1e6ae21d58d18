"""
The two servers that are compared, each in a process of its own: `ours`, and `floor`, the least that `websockets` can do.

Both note when a node was offline (CLOCK_MONOTONIC is one for all processes) and answer lines on stdin: `figures`, `gone`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Gone = dict[str, float]


def ours(gone: Gone) -> None:
    """The registry as the command runs it, with its log; `say` hears of a node when it is offline and out of every pool."""
    from deployer.cli.options import Globals
    from deployer.cli.registry_log import RegistryLog
    from deployer.cli.session import Session
    from deployer.entry import GARBAGE_AFTER
    from deployer.registry.serving import serve
    from deployer.registry.settings import Settings

    gc.set_threshold(GARBAGE_AFTER)

    def say(name: str, facts: dict[str, Any]) -> None:
        log.say(name, facts)
        if name == "node.offline":
            gone[facts["id"]] = time.monotonic()
        elif name == "registry.started":
            _answers(gone, int(facts["listen"].rpartition(":")[2]))

    with Path(os.devnull).open("w") as sys.stderr, RegistryLog(Session(Globals())) as log:
        serve(Settings(port=0, timeout=600.0), say)


def floor(gone: Gone) -> None:
    """A server that only keeps a set of the names that are connected."""
    asyncio.run(_floor(gone))


async def _floor(gone: Gone) -> None:
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    online: set[str] = set()

    async def node(connection: ServerConnection) -> None:
        name = json.loads(await connection.recv())["id"]
        online.add(name)
        await connection.send('{"type":"welcome"}')
        try:
            async for _ in connection:
                pass
        except ConnectionClosed:
            pass
        online.discard(name)
        gone[name] = time.monotonic()

    async with serve(node, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096) as server:
        _answers(gone, next(iter(server.sockets)).getsockname()[1])
        await asyncio.Event().wait()


def _answers(gone: Gone, port: int) -> None:
    print(port, flush=True)
    questions: dict[str, Callable[[], Any]] = {
        "figures": _figures,
        "gone": lambda: _emptied(gone),
        "count": lambda: len(gone),
    }

    def answer() -> None:
        for line in sys.stdin:
            print(json.dumps(questions[line.strip()]()), flush=True)

    threading.Thread(target=answer, daemon=True).start()


def _figures() -> dict[str, float]:
    rollup = Path("/proc/self/smaps_rollup").read_text()
    kib = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return {"kib": kib, "cpu": time.process_time()}


def _emptied(gone: Gone) -> Gone:
    noted = dict(gone)
    gone.clear()
    return noted


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    {"ours": ours, "floor": floor}[sys.argv[1]]({})


if __name__ == "__main__":
    main()
