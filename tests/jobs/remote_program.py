"""A job for another host, as a program: `remote_program.py JSON`. Prints the report, or the error with it, as one line each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROJECT = Path(__file__).parent / "remote_project"
sys.path.insert(0, str(PROJECT))

import steps  # noqa: E402

from deployer.jobs import JobError, RemoteEnvironment  # noqa: E402


def main() -> None:
    asked = json.loads(sys.argv[1])
    env = RemoteEnvironment(
        "my_job", asked.get("host"), path=asked["path"], project=PROJECT, env={"HERE": asked["here"]},
        secrets={"TOKEN": "sesame-open"}, ssh=asked.get("ssh"), task_grace="500ms",
        on_event=lambda event: print(json.dumps(event), file=sys.stderr),
    )  # fmt: skip
    env.register_service("queue", steps.Cache, kwargs={"name": "queue"})
    env.register_service("cache", getattr(steps, asked.get("cache", "Cache")), [2], cleanup_timeout="500ms")
    env.from_batch(steps.pages).map(getattr(steps, asked.get("map", "fetch"))).filter(steps.even).sink(steps.store)
    try:
        report, error = env.submit(autostop=asked.get("autostop", True)), None
    except JobError as failed:
        report, error = failed.report, str(failed)
    except KeyboardInterrupt:
        report, error = env.report, "KeyboardInterrupt"
    print(json.dumps({**report.to_json(), "raised": error}), flush=True)
    if not asked.get("autostop", True):
        again = env.stop()
        print(json.dumps(again.to_json() if again else None), flush=True)


if __name__ == "__main__":
    main()
