"""A node that goes in the way that it is told: python departing.py URL ID HOW."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

from deployer.lifecycle import Lifecycle, NodeAgent

url, name, how = sys.argv[1:]
agent = NodeAgent(url, id=name, pools=["workers"])
life = Lifecycle(max_wait="30s", node=agent, cleanup_within="3s", crash_within="1s")


def told() -> None:
    """Say that we are there; return when the test wants us to go, with the moment on stdout."""
    assert agent.wait_online("20s")
    print("online", flush=True)
    sys.stdin.readline()
    print(time.monotonic(), flush=True)


def failing() -> None:
    raise ValueError("this thread had enough")


def main() -> None:
    if how == "SIGTERM in a task":
        with life.task("callClaude"):
            told()
            time.sleep(1)
        return
    told()
    if how == "stop":
        return
    if how == "exception in main":
        raise ValueError("main had enough")
    if how == "exception in a thread":
        threading.Thread(target=failing).start()
    elif how == "os._exit":
        os._exit(7)
    life.wait(30)


async def serving() -> None:
    await asyncio.get_running_loop().run_in_executor(None, told)
    task = asyncio.ensure_future(failing_task())
    await asyncio.sleep(0)
    del task  # nobody ever asks how it ended
    await asyncio.sleep(30)


async def failing_task() -> None:
    raise ValueError("this task had enough")


if how == "clean-up raises":
    life.cleanup(failing, name="failing")
elif how == "clean-up hangs":
    life.cleanup(lambda: time.sleep(60), name="hanging")

if how == "exception in a task":
    asyncio.run(life.serve(main=serving()))
else:
    sys.exit(life.run(main))
