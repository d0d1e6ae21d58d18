"""The same app for uvicorn, as far as the load asks: GET /, /slow?seconds=S. Goes as a lame duck."""

import asyncio
import json
import os
import signal
import sys

import uvicorn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../../examples/lame_duck")

from lame_duck import LameDuck


async def app(scope, receive, send):
    """Tells who it is, at once or after a while."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(float(scope["query_string"].rpartition(b"=")[2]))
    body = json.dumps({"release": os.environ.get("DEPLOYER_RELEASE"), "pid": os.getpid()}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    duck = LameDuck()
    plain = os.environ.get("LAME_DUCK") == "0"
    config = uvicorn.Config(app if plain else duck.asgi(app), fd=3, loop="asyncio", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    # uvicorn ends a clean stop with the signal itself; the test wants to see a plain 0.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    (server if plain else duck.uvicorn(server)).run()
