"""nginx as a pool: switched under load without a loss; what refuses changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from proxies import Backend, Proxy, get, lost_otherwise, running, switches, two_backends

from app import SOURCE, free_port, wait_until
from deployer.errors import PoolError, PreflightError
from deployer.host.pools.nginx import Nginx
from deployer.host.pools.nginx_directory import NginxDirectory
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
        location / {{ {location} }}
    }}
}}
"""


@contextmanager
def nginx(root: Path, location: str = "proxy_pass http://my-app;") -> Iterator[Proxy]:
    need("nginx")
    root.mkdir(exist_ok=True)
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # the files of a test are below a directory of root's
    (root / "nginx.conf").write_text(CONFIG.format(port=port, user=user, location=location))
    with running(command(root), root, port) as proxy:
        yield proxy


@contextmanager
def by_file(root: Path, first: str) -> Iterator[Proxy]:
    file = root / "pool" / "my-app.conf"
    file.parent.mkdir(parents=True)
    file.write_text(f"upstream my-app {{\n    server {first} max_fails=0;\n}}\n")
    with nginx(root) as proxy:
        yield proxy


@contextmanager
def by_directory(root: Path, first: str, second: str) -> Iterator[Proxy]:
    live = root / "live"
    live.mkdir(parents=True)
    (live / first).touch()
    looks = " ".join(f"if (-f {live}/{address}) {{ set $live {address}; }}" for address in (first, second))
    more = 'if ($live = "") { return 503; } proxy_request_buffering off; proxy_pass http://$live;'
    with nginx(root, f'set $live ""; {looks} {more}') as proxy:
        yield proxy


def command(root: Path) -> list[str]:
    return [find("nginx") or "nginx", "-p", str(root), "-c", "nginx.conf", "-e", "error.log"]


def settings(root: Path, **more: object) -> dict[str, object]:
    return {"kind": "nginx", "file": str(conf(root)), "command": command(root), "timeout": 10.0, **more}


def pool(root: Path, **more: object) -> Nginx:
    return Nginx(settings(root, **more), "my-app")


def files_pool(root: Path, **more: object) -> NginxDirectory:
    return NginxDirectory(
        {"kind": "nginx", "directory": str(root / "live"), "command": command(root), "timeout": 10.0, **more}
    )


def conf(root: Path) -> Path:
    return root / "pool" / "my-app.conf"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "nginx"


@pytest.fixture
def backends() -> Iterator[tuple[Backend, Backend]]:
    with two_backends() as two:
        yield two


def test_switches_by_files_lose_nothing(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, green = backends
    with by_directory(root, blue.address, green.address) as proxy:
        sends = files_pool(root)
        sends.check([blue.address, green.address])
        with Load(Place(proxy.port)) as load:
            switches(sends, load, backends)
        assert (dict(load.losses), load.closed) == ({}, 0)


def test_reloads_lose_nothing_but_what_nginx_cuts_on_idle_connections(
    root: Path, backends: tuple[Backend, Backend]
) -> None:
    with by_file(root, backends[0].address) as proxy:
        sends = pool(root)
        sends.check([backend.address for backend in backends])
        with Load(Place(proxy.port)) as load:
            switches(sends, load, backends, times=8)
        assert lost_otherwise(load) == {}


def test_a_config_that_nginx_refuses_is_told_in_its_words_and_changes_nothing(
    root: Path, backends: tuple[Backend, Backend]
) -> None:
    blue, green = backends
    green.start()
    with by_file(root, blue.address) as proxy:
        (root / "pool" / "other.conf").write_text("no_such_directive 1;\n")
        conf(root).chmod(0o640)
        before = conf(root).read_bytes(), conf(root).stat()
        with pytest.raises(PreflightError) as caught:
            pool(root).check([green.address])
        assert 'unknown directive "no_such_directive"' in str(caught.value.cause)
        with pytest.raises(PoolError) as refused:
            pool(root, pidfile=str(root / "nginx.pid")).send_to([green.address], [blue.address])
        assert "other.conf:1" in str(refused.value.cause)
        after = conf(root).read_bytes(), conf(root).stat()
        assert after[0] == before[0] and after[1].st_mode == before[1].st_mode
        assert leftovers(root) == []
        assert get(proxy.port) == "blue"


def test_a_reload_that_never_comes_is_an_error_and_the_file_is_put_back(
    root: Path, backends: tuple[Backend, Backend]
) -> None:
    blue, green = backends
    with by_file(root, blue.address):
        before = conf(root).read_bytes()
        deaf = script(root, f'[ "$1" = -s ] && exit 0; exec {" ".join(command(root))} "$@"')
        with pytest.raises(PoolError, match="did not load"):
            pool(root, command=[deaf], pidfile=str(root / "nginx.pid"), timeout=1.0).send_to(
                [green.address], [blue.address]
            )
        assert conf(root).read_bytes() == before and leftovers(root) == []


def test_killed_between_write_and_reload_and_called_again_ends_right(
    root: Path, backends: tuple[Backend, Backend]
) -> None:
    blue, green = backends
    green.start()
    with by_file(root, blue.address) as proxy:
        before = conf(root).read_bytes()
        kill_at_reload(root, green.address, blue.address)
        assert green.address in conf(root).read_text() and get(proxy.port) == "blue"

        (root / "pool" / "other.conf").write_text("no_such_directive 1;\n")
        again = pool(root, pidfile=str(root / "nginx.pid"))
        with pytest.raises(PoolError):
            again.send_to([green.address], [blue.address])
        assert conf(root).read_bytes() == before, "what nginx runs stands in the file, not what was never loaded"

        (root / "pool" / "other.conf").unlink()
        kill_at_reload(root, green.address, blue.address)
        again.send_to([green.address], [blue.address])
        assert get(proxy.port) == "green" and leftovers(root) == []
        text = conf(root).read_text()
        again.send_to([green.address], [blue.address])
        assert conf(root).read_text() == text and get(proxy.port) == "green"


def kill_at_reload(root: Path, address: str, leaving: str) -> None:
    """A deploy that is killed after it has written the file, and before it has told nginx."""
    reached = root / "reached"
    hang = f"echo $$ > {reached}.new && mv {reached}.new {reached} && exec sleep 60"
    stuck = script(root, f'[ "$1" = -s ] && {hang}; exec {" ".join(command(root))} "$@"')
    code = "import sys, json; from deployer.host.pools.nginx import Nginx; "
    code += f"Nginx(json.loads(sys.argv[1]), 'my-app').send_to(['{address}'], ['{leaving}'])"
    told = json.dumps(settings(root, command=[stuck], pidfile=str(root / "nginx.pid"), timeout=60.0))
    child = subprocess.Popen([sys.executable, "-c", code, told], env={**os.environ, "PYTHONPATH": str(SOURCE)})
    try:
        wait_until(reached.exists, what="the file is written")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        if reached.exists():
            os.kill(int(reached.read_text()), signal.SIGKILL)  # the command that hung: in a session of its own
    reached.unlink()


def test_without_addresses_this_host_takes_no_traffic(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, _ = backends
    with by_file(root, blue.address) as proxy:
        pool(root).send_to([], leaving=[blue.address])
        assert get(proxy.port) == "502"
        wait_until(lambda: pool(root).in_flight(blue.address) == 0, what="old workers have gone")
        pool(root).send_to([blue.address])
        assert get(proxy.port) == "blue" and "max_fails=0" in conf(root).read_text()
        assert pool(root).in_flight(blue.address) is None, "it takes traffic: nginx does not tell how much"


@pytest.mark.parametrize(
    "text, why",
    [
        ("upstream other {\n    server 127.0.0.1:1;\n}\n", "my-app"),
        ("upstream my-app { server 127.0.0.1:1; server 127.0.0.1:2; }\n", "a line of its own"),
        (
            "upstream my-app {\n    server 127.0.0.1:1;\n}\nserver {\n    listen 127.0.0.1:80;\n}\n",
            "more than the block",
        ),
    ],
)
def test_a_file_that_is_not_ours_alone_is_refused(root: Path, text: str, why: str) -> None:
    conf(root).parent.mkdir(parents=True)
    conf(root).write_text(text)
    with pytest.raises(PreflightError) as caught:
        pool(root).check(["127.0.0.1:1"])
    assert why in str(caught.value.cause) and conf(root).read_text() == text


def test_a_file_that_nginx_does_not_read_is_refused_and_removed_again(
    root: Path, backends: tuple[Backend, Backend]
) -> None:
    with by_file(root, backends[0].address):
        elsewhere = root / "elsewhere" / "my-app.conf"
        elsewhere.parent.mkdir()
        with pytest.raises(PreflightError, match="is not there"):
            pool(root, file=str(elsewhere)).check([])
        with pytest.raises(PoolError, match="does not read"):
            pool(root, file=str(elsewhere)).send_to([backends[1].address])
        assert list(elsewhere.parent.iterdir()) == []


def test_nginx_that_does_not_run_is_told(root: Path) -> None:
    need("nginx")
    conf(root).parent.mkdir(parents=True)
    conf(root).write_text("upstream my-app {\n    server 127.0.0.1:1;\n}\n")
    (root / "nginx.conf").write_text(CONFIG.format(port=free_port(), user="", location="proxy_pass http://my-app;"))
    with pytest.raises(PreflightError, match="does not run"):
        pool(root).check([])
    with pytest.raises(PoolError, match="does not run"):
        pool(root).send_to(["127.0.0.1:2"])
    with pytest.raises(PreflightError, match="could not be started"):
        pool(root, command=["/no/such/nginx"]).check([])


def test_a_directory_that_nginx_does_not_look_at_is_refused(root: Path, backends: tuple[Backend, Backend]) -> None:
    blue, green = backends
    with by_directory(root, blue.address, green.address) as proxy:
        with pytest.raises(PreflightError, match="does not send to 127"):
            files_pool(root).check(["127.0.0.1:9"])
        with pytest.raises(PreflightError, match=f"{blue.address} by its file"):
            files_pool(root, directory=str(root / "nowhere")).check([blue.address])
        with pytest.raises(PoolError):
            files_pool(root, directory=str(root / "nowhere")).send_to([blue.address])
        files_pool(root).send_to([], [blue.address])
        assert get(proxy.port) == "503"
        files_pool(root).send_to([blue.address])
        assert get(proxy.port) == "blue"


def script(root: Path, text: str) -> str:
    file = root / "nginx.sh"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def leftovers(root: Path) -> list[str]:
    return [name for name in os.listdir(root / "pool") if name.startswith(".")]
