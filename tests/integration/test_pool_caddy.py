"""Caddy as a pool: switched under load without a loss; what refuses changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from proxies import Backend, Proxy, running, switches, tell, two_backends

from app import free_port
from deployer.host.pools.caddy import Caddy
from deployer.host.pools.caddy_directory import CaddyDirectory
from openload import Load, Place
from parts import need


def by_id(*addresses: str) -> list[dict]:
    """A site that begins with the first address; a route that is never taken names all, so that caddy counts for them."""
    named = [{"dial": address} for address in addresses]
    return [
        {"match": [{"expression": "false"}], "handle": [{"handler": "reverse_proxy", "upstreams": named}]},
        {"handle": [{"handler": "reverse_proxy", "@id": "my-app", "upstreams": named[:1]}]},
    ]


@contextmanager
def caddy(root: Path, routes: list[dict], listen: str = "", **admin: object) -> Iterator[Proxy]:
    need("caddy")
    root.mkdir(exist_ok=True)
    port = free_port()
    path = listen.removeprefix("unix/")
    server = {"listen": [listen or f"127.0.0.1:{port}"], "routes": routes, "automatic_https": {"disable": True}}
    config = {"admin": {"listen": f"unix/{root}/admin.sock", **admin}, "apps": {"http": {"servers": {"s": server}}}}
    (root / "caddy.json").write_text(json.dumps(config))
    env = {"HOME": str(root), "XDG_DATA_HOME": str(root), "XDG_CONFIG_HOME": str(root), "PATH": "/usr/bin"}
    with running(["caddy", "run", "--config", "caddy.json"], root, port, path, env=env) as proxy:
        yield proxy


def pool(root: Path, **more: object) -> Caddy:
    return Caddy(
        {"kind": "caddy", "admin": f"unix/{root}/admin.sock", "id": "my-app", "timeout": 10.0, **more}, "my-app"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "caddy"


def by_file(directory: Path, backends: tuple[Backend, Backend]) -> list[dict]:
    return [
        {
            "match": [{"file": {"root": str(directory), "try_files": [f"/{backend.address}"]}}],
            "handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": backend.address}]}],
        }
        for backend in backends
    ]


def test_twenty_switches_by_the_api_lose_nothing_on_a_unix_socket(root: Path) -> None:
    with (
        two_backends() as backends,
        caddy(root, by_id(*(backend.address for backend in backends)), listen=f"unix/{root}/site.sock") as proxy,
    ):
        sends = pool(root)
        sends.check([backend.address for backend in backends])
        since = time.monotonic()
        with Load(Place(path=proxy.path)) as load:
            switches(sends, load, backends)
        print(tell(load, since))
        assert not load.losses


def test_twenty_switches_by_the_api_tcp(root: Path) -> None:
    with two_backends() as backends, caddy(root, by_id(*(backend.address for backend in backends))) as proxy:
        sends = pool(root)
        sends.check([backend.address for backend in backends])
        since = time.monotonic()
        with Load(Place(proxy.port)) as load:
            switches(sends, load, backends)
        print(tell(load, since))
        assert not load.losses


def test_twenty_switches_by_files_lose_nothing(root: Path) -> None:
    directory = root / "live"
    directory.mkdir(parents=True)
    with two_backends() as backends, caddy(root, by_file(directory, backends)) as proxy:
        (directory / backends[0].address).touch()
        sends = CaddyDirectory(
            {"kind": "caddy", "admin": f"unix/{root}/admin.sock", "directory": str(directory), "timeout": 10.0}
        )
        sends.check([backend.address for backend in backends])
        since = time.monotonic()
        with Load(Place(proxy.port)) as load:
            switches(sends, load, backends)
        print(tell(load, since))
        assert not load.losses
