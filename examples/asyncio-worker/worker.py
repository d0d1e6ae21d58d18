"""A queue worker: takes jobs out of a directory, one by one, and leaves none half done."""

import asyncio
import json
import os
from pathlib import Path

from deployer.lifecycle import Lifecycle

JOBS = Path("jobs")  # stands for your queue; {"seconds": 3} in jobs/NAME.job
life = Lifecycle(max_wait="10m", health="127.0.0.1:3005")


async def main() -> None:
    while not life.shutting_down:
        job = min(JOBS.glob("*.job"), default=None)
        if job is None:
            await life.asleep("200ms")  # ends at once when we have to go
            continue
        async with life.task(job.stem):
            await work(job)


async def work(job: Path) -> None:
    await asyncio.sleep(json.loads(job.read_text())["seconds"])
    result = {"job": job.stem, "pid": os.getpid(), "release": os.environ.get("DEPLOYER_RELEASE")}
    finished = job.with_suffix(".finished")
    finished.write_text(json.dumps(result))
    finished.rename(job.with_suffix(".result"))  # whole, or not there
    job.unlink()


if __name__ == "__main__":
    life.run(main)
