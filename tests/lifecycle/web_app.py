"""
An ASGI app under `life.uvicorn`, without a framework: what a server does at the end of its life, seen from outside.

    GET /   /slow?SECONDS (no task)   /task?SECONDS   /later?SECONDS (a task after the answer)   /refuse (ShuttingDown)
    /stream?SECONDS   /block?SECONDS (the loop)
    a WebSocket echoes

The lifespan's shutdown is noted on stdout, after the number of tasks that are in flight then. LIFE is JSON for Lifecycle(...).
"""

import asyncio
import json
import os
import time

from deployer.lifecycle import Lifecycle, ShuttingDown

life = Lifecycle(**json.loads(os.environ.get("LIFE", "{}")))
kept = set()


async def app(scope, receive, send):
    await {"http": http, "websocket": talk, "lifespan": lifespan}[scope["type"]](scope, receive, send)


async def http(scope, receive, send):
    seconds = float(scope["query_string"] or 1)
    path = scope["path"]
    if path == "/refuse":
        raise ShuttingDown("no more of these")
    if path == "/stream":
        return await stream(seconds, send)
    if path == "/task":
        with life.task("task"):
            await asyncio.sleep(seconds)
    elif path == "/later":
        kept.add(asyncio.ensure_future(later(seconds)))
        await asyncio.sleep(0)  # it has begun
    elif path == "/slow":
        await asyncio.sleep(seconds)
    elif path == "/block":
        time.sleep(seconds)
    body = json.dumps({"release": os.environ.get("DEPLOYER_RELEASE"), "pid": os.getpid()}).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@life.task("later")
async def later(seconds):
    await asyncio.sleep(seconds)


async def stream(seconds, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await send({"type": "http.response.body", "body": b"more\n", "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b"end\n"})


async def talk(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("disconnect", message["code"], flush=True)
            return
        await send({"type": "websocket.send", "text": message["text"]})


async def lifespan(scope, receive, send):
    await receive()
    await asyncio.sleep(float(os.environ.get("BOOT", "0")))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("shutdown", life.busy, flush=True)
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    life.uvicorn(app, log_level="warning")
