"""Caddy as a pool: switched under load without a loss; what refuses changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from proxies import Backend, Proxy, get, lost_otherwise, running, switches, two_backends

from app import free_port, wait_until
from deployer.errors import PoolError, PreflightError
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
def caddy(root: Path, routes: list[dict], listen: str = "", admin_listen: str = "", **admin: object) -> Iterator[Proxy]:
    need("caddy")
    root.mkdir(exist_ok=True)
    port = int(listen.rpartition(":")[2]) if ":" in listen else free_port()
    path = listen.removeprefix("unix/") if listen.startswith("unix/") else ""
    server = {"listen": [listen or f"127.0.0.1:{port}"], "routes": routes, "automatic_https": {"disable": True}}
    config = {
        "admin": {"listen": admin_listen or f"unix/{root}/admin.sock", **admin},
        "apps": {"http": {"servers": {"s": server}}},
    }
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


@pytest.fixture
def backends() -> Iterator[tuple[Backend, Backend]]:
    with two_backends() as two:
        yield two


def by_file(directory: Path, backends: tuple[Backend, Backend]) -> list[dict]:
    return [
        {
            "match": [{"file": {"root": str(directory), "try_files": [f"/{backend.address}"]}}],
            "handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": backend.address}]}],
        }
        for backend in backends
    ]


def files_pool(root: Path, **more: object) -> CaddyDirectory:
    settings = {"kind": "caddy", "admin": f"unix/{root}/admin.sock", "directory": str(root / "live"), "timeout": 10.0}
    return CaddyDirectory({**settings, **more})


def dials(root: Path) -> list[str]:
    return [one["dial"] for one in pool(root)._admin.get("/id/my-app/upstreams").body]


def test_switches_by_files_lose_nothing(root: Path, backends: tuple[Backend, Backend]) -> None:
    live = root / "live"
    live.mkdir(parents=True)
    with caddy(root, by_file(live, backends)) as proxy:
        (live / backends[0].address).touch()
        sends = files_pool(root)
        sends.check([backend.address for backend in backends])
        with Load(Place(proxy.port)) as load:
            switches(sends, load, backends)
        assert (dict(load.losses), load.closed) == ({}, 0)


def test_switches_by_the_api_lose_nothing_but_what_caddy_cuts_on_idle_connections(
    root: Path, backends: tuple[Backend, Backend]
) -> None:
    both = [backend.address for backend in backends]
    with caddy(root, by_id(*both), listen=f"unix/{root}/site.sock") as proxy:  # on TCP its backlog is lost too
        sends = pool(root)
        sends.check(both)
        with Load(Place(path=proxy.path)) as load:
            switches(sends, load, backends, times=8)
        assert lost_otherwise(load) == {}


def test_the_same_upstreams_again_load_no_config(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, green = backends
    with caddy(root, by_id(blue.address)):
        pool(root).send_to([green.address], [blue.address])
        assert dials(root) == [green.address]
        loads = config_loads(root)
        pool(root).send_to([green.address], [blue.address])
        assert config_loads(root) == loads and dials(root) == [green.address]


def config_loads(root: Path) -> int:
    return (root / "stderr.txt").read_text().count('"PATCH"')


def test_hosts_that_change_one_pool_at_once_lose_no_change(root: Path) -> None:
    ours = [[f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"] for port in (11, 21, 31)]

    def deploy(pair: list[str]) -> None:
        sends, (old, new) = pool(root), pair
        for _ in range(5):
            sends.send_to([new], [old])
            old, new = new, old

    with caddy(root, by_id("127.0.0.1:9")):
        with ThreadPoolExecutor(3) as hosts:
            list(hosts.map(deploy, ours))
        assert set(dials(root)) == {"127.0.0.1:9", *(pair[1] for pair in ours)}


def test_without_addresses_this_host_takes_no_traffic(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, _ = backends
    with caddy(root, by_id(blue.address)) as proxy:
        pool(root).send_to([], [blue.address])
        assert get(proxy.port) in ("502", "503") and dials(root) == []
        pool(root).send_to([blue.address])
        assert get(proxy.port) == "blue"


def test_in_flight_is_what_caddy_counts_and_unknown_where_it_forgot(
    root: Path, backends: tuple[Backend, Backend]
) -> None:
    blue, green = backends
    with caddy(root, by_id(blue.address)) as proxy, Load(Place(proxy.port), fresh_rate=1, kept=0) as load:
        waiting = load.slow(3)
        wait_until(blue.waiting, what="a request is in flight")
        assert pool(root).in_flight(blue.address) == 1
        assert pool(root).in_flight(green.address) is None
        assert waiting.result(10) == "blue"


@pytest.mark.parametrize(
    "more, title",
    [
        ({"admin": "unix//nowhere/admin.sock"}, "could not be asked"),
        ({"admin": "127.0.0.1:1"}, "could not be asked"),
        ({"id": "other"}, "no object with id other"),
        ({"id": "site"}, "no reverse_proxy"),
    ],
)
def test_what_is_not_as_the_config_says_is_told_and_changes_nothing(
    root: Path, more: dict[str, object], title: str
) -> None:
    routes = [*by_id("127.0.0.1:9"), {"@id": "site", "handle": [{"handler": "static_response"}]}]
    with caddy(root, routes):
        with pytest.raises(PreflightError, match=title) as caught:
            pool(root, **more).check(["127.0.0.1:7"])
        assert caught.value.state == "nothing was changed" and caught.value.hint and caught.value.cause
        with pytest.raises(PoolError, match=title):
            pool(root, **more).send_to(["127.0.0.1:7"], ["127.0.0.1:9"])
        assert dials(root) == ["127.0.0.1:9"]


def test_an_api_with_origins_of_its_own_is_told_one_of_them(root: Path) -> None:
    with caddy(root, by_id("127.0.0.1:9"), origins=["deployer"], enforce_origin=True):
        with pytest.raises(PreflightError, match="refuses us") as caught:
            pool(root).check([])
        assert "origin" in caught.value.hint
        pool(root, origin="deployer").check([])
        pool(root, origin="deployer").send_to(["127.0.0.1:7"], ["127.0.0.1:9"])
        assert pool(root, origin="deployer").in_flight("127.0.0.1:7") == 0


def test_the_api_on_tcp_obeys_too(root: Path) -> None:
    port = free_port()
    with caddy(root, by_id("127.0.0.1:9"), listen=f"127.0.0.1:{free_port()}", admin_listen=f"127.0.0.1:{port}"):
        sends = pool(root, admin=f"127.0.0.1:{port}")
        sends.check(["127.0.0.1:7"])
        sends.send_to(["127.0.0.1:7"], ["127.0.0.1:9"])
        assert sends.in_flight("127.0.0.1:7") == 0


def test_a_directory_that_caddy_does_not_look_at_is_refused(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, _ = backends
    live = root / "live"
    live.mkdir(parents=True)
    with caddy(root, by_file(live, backends)) as proxy:
        with pytest.raises(PreflightError, match="does not send to 127") as caught:
            files_pool(root).check(["127.0.0.1:7"])
        assert "try_files /127.0.0.1:7" in caught.value.cause
        with pytest.raises(PreflightError, match="by its file"):
            files_pool(root, directory=str(root)).check([blue.address])
        live.rmdir()
        with pytest.raises(PreflightError, match="cannot be written"):
            files_pool(root).check([blue.address])
        with pytest.raises(PoolError, match="could not be changed"):
            files_pool(root).send_to([blue.address])
        live.mkdir()
        files_pool(root).send_to([blue.address])
        assert get(proxy.port) == "blue"
