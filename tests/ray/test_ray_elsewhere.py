"""A Ray target without a cluster: every command says in one error what is the matter, and nothing hangs."""

import json
from pathlib import Path

import pytest

import parts
from ray_rig import ray_command

CONFIG = """
app = "t-app"
[build]
artifact = "dist"
[services.plain]
class = "my_services:Plain"
[target.ray]
ray = "127.0.0.1:1"
"""


@pytest.fixture
def nowhere(app):
    if not Path(ray_command()).exists():
        parts.missing("ray is not installed")
    (app.root / "deploy.toml").write_text(CONFIG)
    return app


def test_a_cluster_that_is_not_there_is_told_before_anything_is_built(nowhere):
    text = CONFIG.replace("[build]", '[build]\ncommand = "touch built"')
    (nowhere.root / "deploy.toml").write_text(text)
    push = nowhere.push(check=6)
    error = push.event("host.finished")["error"]
    assert "could not be reached" in error["title"] and "127.0.0.1:1" in error["cause"]
    assert push.event("push.finished")["status"] == "failed" and not (nowhere.root / "built").exists()
    status = nowhere.run("status", "--json", check=0).events[0]["hosts"][0]
    assert status["error"]["code"] == 6


@pytest.mark.parametrize("words", [("logs",), pytest.param(("rollback",), marks=pytest.mark.full), ("run",)])
def test_what_is_not_available_on_ray_says_so(nowhere, words):
    (nowhere.root / "deploy.toml").write_text(CONFIG + '[job]\ncommand = ["true"]\n')
    asked = nowhere.run(*words, check=2)
    assert "not available on a Ray target" in asked.err and "Traceback" not in asked.err


def test_without_ray_it_is_one_line(nowhere):
    blocker = nowhere.root / "blocked"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'ray': raise ModuleNotFoundError(\"No module named 'ray'\", name='ray')\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'ray' else found(name, package)\n"
    )
    from app import SOURCE

    for command in ("push", "status"):
        asked = nowhere.run(command, env={"PYTHONPATH": f"{blocker}:{SOURCE}"}, check=2)
        assert asked.err.strip() == 'error: ray is not installed: pip install "ray>=2.44"', json.dumps(asked.err)
