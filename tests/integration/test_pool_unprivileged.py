"""Pools under a login user who may not do what was asked: a clear error, before anything is changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from test_pool_caddy import by_id, caddy
from test_pool_caddy import pool as caddy_pool
from test_pool_haproxy import haproxy
from test_pool_haproxy import pool as haproxy_pool

from deployer.errors import DeployerError
from deployer.host.pools.base import Pool
from deployer.host.pools.nginx_directory import Directory
from parts import need, need_root

NOBODY = 65534


def as_nobody(ask: Callable[[], None]) -> dict[str, object]:
    """The error that *ask* ends with for a user without rights, in a process of its own; {} when it returned."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        found: dict[str, object] = {"kind": "nothing was tried"}
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            found = {}
            ask()
        except DeployerError as error:
            found = error.to_json()
        finally:
            os.write(writing, json.dumps(found).encode())
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    told: dict[str, object] = json.loads(text)
    return told


@pytest.mark.parametrize("kind", ["haproxy", "caddy"])
def test_a_socket_that_is_not_ours_is_told(tmp_path: Path, kind: str) -> None:
    need_root()
    need(kind)
    pools: dict[str, Pool] = {"haproxy": haproxy_pool(tmp_path), "caddy": caddy_pool(tmp_path)}
    running = {
        "haproxy": lambda: haproxy(tmp_path, ["blue 127.0.0.1:9"]),
        "caddy": lambda: caddy(tmp_path, by_id("127.0.0.1:9")),
    }
    with running[kind]():
        told = as_nobody(lambda: pools[kind].check(["127.0.0.1:9"]))
    assert (told["kind"], told["state"]) == ("PreflightError", "nothing was changed")
    assert "Permission denied" in str(told["cause"]) and told["hint"]


def test_a_directory_that_is_not_ours_is_told(tmp_path: Path) -> None:
    need_root()
    told = as_nobody(Directory(str(tmp_path)).require_writable)
    assert told["kind"] == "PreflightError" and "install -d" in str(told["hint"])
    assert as_nobody(Directory("/tmp").require_writable) == {}
