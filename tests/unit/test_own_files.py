"""Which files of a release are a service's own: patterns, or what its command names; the safe guess where that is not clear."""

from __future__ import annotations

from typing import Any

import pytest

from deployer.errors import UsageError
from deployer.manifest import Entry, Manifest
from deployer.rollout.own_files import NOTHING, own_files


def release(**contents: str) -> Manifest:
    names = {"cache": "cache/main.lua", "server": "server.py", "worker": "pkg/worker.py"}
    texts = {"cache": "a", "server": "b", "worker": "c", **contents}
    return Manifest(Entry(names[name], "f", 0o644, 1, text * 64) for name, text in texts.items())


def digest(table: dict[str, Any], **contents: str) -> str:
    return own_files(release(**contents), {"one": {"env": {}, "class": None, **table}})["one"]


@pytest.mark.parametrize(
    "command",
    [
        ["redis-server", "--port", "6380"],
        ["python3", "-m", "http.server", "8000"],
        ["/opt/cache/bin/run", "--threads=4"],
        ["sh", "-c", "exec redis-server /etc/redis.conf"],
    ],
)
def test_command_of_the_host_has_no_file_of_the_release(command: list[str]) -> None:
    assert digest({"command": command}) == NOTHING


@pytest.mark.parametrize(
    "command",
    [
        ["python3", "server.py"],
        ["python3", "./server.py"],
        ["redis-server", "--loadmodule=cache/main.lua"],
        ["nginx", "-c", "cache"],
        ["sh", "-c", "cd pkg && exec python3 worker.py"],
        ["python3", "-m", "pkg.worker"],
        ["gunicorn", "pkg.worker:app"],
        [".venv/bin/celery", "status"],
        ["./start"],
        ["npm", "run", "worker"],
        ["sh", "-c", "exec make serve"],
        ["node", "."],
    ],
)
def test_command_that_names_something_of_the_release_has_all_of_it(command: list[str]) -> None:
    assert digest({"command": command}) == release().digest


def test_class_and_environment_count_as_well() -> None:
    assert digest({"command": None, "class": "pkg.worker:Queue"}) == release().digest
    assert digest({"command": ["redis-server"], "env": {"CONF": "cache/main.lua"}}) == release().digest


def test_patterns_say_it_exactly() -> None:
    table = {"command": ["python3", "server.py"], "files": ["*.py", "!/pkg/*"]}
    assert digest(table) == digest(table, cache="d") == digest(table, worker="d") != digest(table, server="d")
    assert digest({"command": ["python3", "server.py"], "files": []}) == NOTHING


def test_bad_pattern_is_named() -> None:
    with pytest.raises(UsageError, match="bad pattern"):
        digest({"command": ["redis-server"], "files": ["!"]})
