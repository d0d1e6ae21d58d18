"""HAProxy as a pool: switched under load without a loss; what refuses changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from proxies import Backend, Proxy, running, switches, tell, two_backends

from app import free_port
from deployer.host.pools.haproxy import HAProxy
from openload import Load, Place
from parts import need

CONFIG = """
global
    stats socket {root}/admin.sock mode 600 level {level}
    {glob}
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind 127.0.0.1:{port}
    default_backend app
backend app
    {more}
    {servers}
"""


@contextmanager
def haproxy(root: Path, servers: list[str], level: str = "admin", more: str = "", port: int = 0) -> Iterator[Proxy]:
    need("haproxy")
    root.mkdir(exist_ok=True)
    port = port or free_port()
    lines = "\n    ".join(f"server {server}" for server in servers)
    text = CONFIG.format(root=root, level=level, port=port, servers=lines, more=more, glob="")
    (root / "haproxy.cfg").write_text(text)
    with running(["haproxy", "-db", "-W", "-f", "haproxy.cfg"], root, port) as proxy:
        yield proxy


def servers(backends: tuple[Backend, Backend]) -> list[str]:
    blue, green = backends
    return [f"blue {blue.address} check inter 100ms", f"green {green.address} check inter 100ms disabled"]


def pool(root: Path, **more: object) -> HAProxy:
    settings = {"kind": "haproxy", "socket": str(root / "admin.sock"), "backend": "app", "timeout": 10.0}
    return HAProxy({**settings, **more}, "app")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "haproxy"


def test_twenty_switches_under_load_lose_nothing(root: Path) -> None:
    with two_backends() as backends, haproxy(root, servers(backends)) as proxy:
        sends = pool(root)
        sends.check([backend.address for backend in backends])
        since = time.monotonic()
        with Load(Place(proxy.port)) as load:
            switches(sends, load, backends)
        print(tell(load, since))
        assert not load.losses
