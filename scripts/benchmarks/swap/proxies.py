"""Real proxies in directories of their own: as deployer's pools want them, and nginx as it is switched by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import end, free_port, wait_until
from benchmarks.swap.way import Missing

NGINX = """\
daemon off;
pid nginx.pid;
error_log error.log;
worker_processes 2;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    {more}
    server {{
        listen 127.0.0.1:{port};
        location / {{ {location} }}
    }}
}}
"""
HAPROXY = """\
global
    stats socket {root}/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port}
    default_backend app
backend app
    {servers}
"""


@dataclass
class Proxy:
    """A proxy at `url`; `pool` are the lines of [target.X.pool], `switch` sends all to a port by hand."""

    url: str
    pool: str = ""
    switch: Callable[[int], None] = field(default=lambda port: None)


@contextmanager
def nginx(root: Path, ports: Sequence[int]) -> Iterator[Proxy]:
    """Asks a directory at each request who is live: deployer's pool."""
    live = root / "live"
    live.mkdir(parents=True)
    looks = " ".join(f"if (-f {live}/127.0.0.1:{port}) {{ set $live 127.0.0.1:{port}; }}" for port in ports)
    location = (
        f'set $live ""; {looks} if ($live = "") {{ return 503; }} proxy_request_buffering off; proxy_pass http://$live;'
    )
    with _nginx(root, "", location) as url:
        yield Proxy(url, f'kind = "nginx"\ndirectory = "{live}"\ncommand = {json.dumps(_nginx_command(root))}')


@contextmanager
def nginx_by_upstream(root: Path, first: int) -> Iterator[Proxy]:
    """Has an upstream file that somebody rewrites, and is reloaded."""
    root.mkdir(parents=True)
    upstream = root / "upstream.conf"

    def write(port: int) -> None:
        upstream.write_text(f"upstream app {{ server 127.0.0.1:{port}; }}\n")

    def switch(port: int) -> None:
        write(port)
        subprocess.run([*_nginx_command(root), "-s", "reload"], check=True, stdin=subprocess.DEVNULL)

    write(first)
    with _nginx(root, "include upstream.conf;", "proxy_pass http://app;") as url:
        yield Proxy(url, switch=switch)


@contextmanager
def haproxy(root: Path, ports: Sequence[int]) -> Iterator[Proxy]:
    """Its servers are down until deployer orders them."""
    root.mkdir(parents=True)
    port = free_port()
    servers = "\n    ".join(f"server s{one} 127.0.0.1:{one} check inter 50ms disabled" for one in ports)
    (root / "haproxy.cfg").write_text(HAPROXY.format(root=root, port=port, servers=servers))
    with _running(["haproxy", "-db", "-W", "-f", "haproxy.cfg"], root, root / "admin.sock"):
        yield Proxy(f"http://127.0.0.1:{port}", f'kind = "haproxy"\nsocket = "{root}/admin.sock"\nbackend = "app"')


@contextmanager
def caddy(root: Path, ports: Sequence[int]) -> Iterator[Proxy]:
    """Asks a directory at each request, as nginx does."""
    live = root / "live"
    live.mkdir(parents=True)
    port = free_port()
    routes = [
        {
            "match": [{"file": {"root": str(live), "try_files": [f"/127.0.0.1:{one}"]}}],
            "handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{one}"}]}],
        }
        for one in ports
    ]
    server = {"listen": [f"127.0.0.1:{port}"], "routes": routes, "automatic_https": {"disable": True}}
    config = {"admin": {"listen": f"unix/{root}/admin.sock"}, "apps": {"http": {"servers": {"s": server}}}}
    (root / "caddy.json").write_text(json.dumps(config))
    home = {"HOME": str(root), "XDG_DATA_HOME": str(root), "XDG_CONFIG_HOME": str(root)}
    with _running(["caddy", "run", "--config", "caddy.json"], root, root / "admin.sock", home):
        yield Proxy(
            f"http://127.0.0.1:{port}", f'kind = "caddy"\nadmin = "unix/{root}/admin.sock"\ndirectory = "{live}"'
        )


@contextmanager
def _nginx(root: Path, more: str, location: str) -> Iterator[str]:
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # the scratch directory is root's
    (root / "nginx.conf").write_text(NGINX.format(port=port, user=user, more=more, location=location))
    with _running(_nginx_command(root), root, root / "nginx.pid"):
        yield f"http://127.0.0.1:{port}"


def _nginx_command(root: Path) -> list[str]:
    return [_found("nginx"), "-p", str(root), "-c", "nginx.conf", "-e", "error.log"]


@contextmanager
def _running(argv: list[str], root: Path, sign: Path, more: dict[str, str] | None = None) -> Iterator[None]:
    """*argv* in the foreground, once the file *sign* of it is there."""
    with (root / "stderr.txt").open("ab") as errors:
        process = subprocess.Popen(
            [_found(argv[0]), *argv[1:]], cwd=root, env={**os.environ, **(more or {})}, stdin=subprocess.DEVNULL,
            stdout=errors, stderr=errors, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: sign.exists() or process.poll() is not None, f"{argv[0]} is up")
        if process.poll() is not None:
            raise SystemExit(f"bench: {argv[0]} ended: {(root / 'stderr.txt').read_text()}")
        yield
    finally:
        end(process)


def _found(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{program} is not installed")
    return found
