"""A Flask app under gunicorn, whose reports take minutes."""

import json
import os
import time
from pathlib import Path

from flask import Flask, request

from deployer.lifecycle import Lifecycle

RESULTS = Path("results")
life = Lifecycle(max_wait="10m")
app = Flask(__name__)
app.wsgi_app = life.wsgi(app.wsgi_app)  # type: ignore[method-assign]


@app.get("/")
def whoami() -> dict[str, object]:
    return {"release": os.environ.get("DEPLOYER_RELEASE"), "pid": os.getpid()}


@app.post("/report/<name>")
def report(name: str) -> dict[str, object]:
    with life.task("report"):
        time.sleep(float(request.args.get("seconds", 1)))  # stands for your work
        (RESULTS / f"{name}.json").write_text(json.dumps(whoami()))
    return whoami()
