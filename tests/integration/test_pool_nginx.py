"""nginx as a pool: switched under load without a loss; what refuses changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from proxies import Proxy, running, switches, tell, two_backends

from app import free_port
from deployer.host.pools.nginx import Nginx
from openload import Load, Place
from parts import find, need

CONFIG = """
daemon off;
pid nginx.pid;
error_log error.log;
worker_processes 2;
{user}
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    include pool/*.conf;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://my-app; }}
    }}
}}
"""


@contextmanager
def nginx(root: Path, first: str) -> Iterator[Proxy]:
    need("nginx")
    root.mkdir(exist_ok=True)
    (root / "pool").mkdir()
    (root / "pool" / "my-app.conf").write_text(f"upstream my-app {{\n    server {first};\n}}\n")
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    (root / "nginx.conf").write_text(CONFIG.format(port=port, user=user))
    with running(command(root), root, port) as proxy:
        yield proxy


def command(root: Path) -> list[str]:
    return [find("nginx") or "nginx", "-p", str(root), "-c", "nginx.conf", "-e", "error.log"]


def pool(root: Path, **more: object) -> Nginx:
    settings = {"kind": "nginx", "file": str(root / "pool" / "my-app.conf"), "command": command(root), "timeout": 10.0}
    return Nginx({**settings, **more}, "my-app")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "nginx"


def test_twenty_switches_under_load_lose_nothing(root: Path) -> None:
    with two_backends() as backends, nginx(root, backends[0].address) as proxy:
        sends = pool(root)
        sends.check([backend.address for backend in backends])
        since = time.monotonic()
        with Load(Place(proxy.port)) as load:
            switches(sends, load, backends)
        print(tell(load, since))
        assert not load.losses
