"""A FastAPI app that is replaced without losing a request: the new release serves beside the old one until that has finished."""

import asyncio
import json
import os
from pathlib import Path

from fastapi import BackgroundTasks, FastAPI

from deployer.lifecycle import Lifecycle

RESULTS = Path("results")
life = Lifecycle(max_wait="10m")
app = FastAPI()


@app.get("/")
async def whoami() -> dict[str, object]:
    return {"release": os.environ.get("DEPLOYER_RELEASE"), "pid": os.getpid()}


@app.get("/slow")
async def slow(seconds: float = 1) -> dict[str, object]:
    """A request is waited for in any case; with a name of its own, `deployer push` says what it waits for."""
    async with life.task("slow answer"):
        await asyncio.sleep(seconds)
    return await whoami()


@app.post("/report/{name}", status_code=202)
async def report(name: str, background: BackgroundTasks, seconds: float = 1) -> dict[str, str]:
    """Work that goes on after the answer."""
    background.add_task(write, name, seconds)
    return {"accepted": name}


@life.task("report")
async def write(name: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    (RESULTS / f"{name}.json").write_text(json.dumps(await whoami()))


if __name__ == "__main__":
    life.uvicorn(app, port=3001)  # the inherited socket, where there is one
