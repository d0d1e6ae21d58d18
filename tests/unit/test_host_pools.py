"""What pools are chosen and told by: addresses, nginx's file as text, answers of a proxy. No proxy runs here."""

from __future__ import annotations

import pytest

from deployer.errors import DeployerError, PoolError, UsageError
from deployer.host.pools import http_exchange, upstream
from deployer.host.pools.address import split
from deployer.host.pools.caddy_directory import CaddyDirectory
from deployer.host.pools.choose import address, pool_of
from deployer.host.pools.nginx import Nginx
from deployer.host.pools.nginx_config import pidfile, sections
from deployer.host.pools.nginx_directory import NginxDirectory

BLUE, GREEN = "127.0.0.1:3001", "127.0.0.1:3002"


def text(*lines: str) -> str:
    return "\n".join(["upstream my-app {", *(f"    {line}" for line in lines), "}", ""])


@pytest.mark.parametrize(
    "before, addresses, leaving, after",
    [
        ([f"server {BLUE};"], [GREEN], [BLUE], [f"server {GREEN};"]),
        ([f"server {GREEN};"], [GREEN], [BLUE], [f"server {GREEN};"]),
        ([f"server {BLUE} weight=2;  # ours"], [GREEN], [BLUE], [f"server {GREEN} weight=2;  # ours"]),
        ([f"server {BLUE} down;"], [BLUE], [], [f"server {BLUE};"]),
        ([f"server {BLUE} weight=2;"], [], [BLUE], [f"server {BLUE} weight=2 down;"]),
        ([f"server {BLUE} down;"], [], [BLUE], [f"server {BLUE} down;"]),
        ([f"server {BLUE} weight=2 down;"], [GREEN], [BLUE], [f"server {GREEN} weight=2;"]),
        (["server 127.0.0.1:1 down;"], [GREEN], [BLUE], ["server 127.0.0.1:1 down;", f"server {GREEN};"]),
        (["server 10.0.0.2:3001;", f"server {BLUE};"], [], [BLUE], ["server 10.0.0.2:3001;"]),
        (["least_conn;", f"server {BLUE};", "keepalive 8;"], [GREEN], [BLUE], ["least_conn;", f"server {GREEN};", "keepalive 8;"]),
        ([f"server {BLUE};", f"server {GREEN};"], [GREEN], [BLUE], [f"server {GREEN};"]),
        ([f"server {BLUE};"], [BLUE], [BLUE], [f"server {BLUE};"]),
    ],
)  # fmt: skip
def test_only_our_servers_change_in_the_upstream(before, addresses, leaving, after) -> None:
    changed = upstream.change(text(*before), addresses, leaving)
    assert changed == text(*after)
    assert upstream.change(changed, addresses, leaving) == changed
    assert upstream.fault(changed, "my-app") is None


def test_a_new_file_is_one_that_can_be_changed_again() -> None:
    first = upstream.first("my-app", [BLUE], [], "Written by deployer.")
    assert upstream.fault(first, "my-app") is None and upstream.live(first) == [BLUE]
    assert upstream.live(upstream.first("my-app", [], [BLUE], "Written by deployer.")) == []


@pytest.mark.parametrize(
    "found",
    ["", "upstream other {\n}\n", text("server a:1; server b:2;"), text("server a:1;") * 2, text("server a:1;") + "server {\n}\n",
     "upstream my-app { server a:1; }\n", "upstream my-app {\n    server a:1;\n"],
)  # fmt: skip
def test_a_file_that_holds_anything_else_is_not_touched(found: str) -> None:
    assert upstream.fault(found, "my-app")


@pytest.mark.parametrize(
    "command, config, compiled, path",
    [
        (["nginx"], "", "--prefix=/usr/share/nginx --pid-path=/run/nginx.pid", "/run/nginx.pid"),
        (["nginx"], "user a;\npid /tmp/a.pid;\n", "--pid-path=/run/nginx.pid", "/tmp/a.pid"),
        (["nginx"], "# pid /tmp/a.pid;\n", "--pid-path=/run/nginx.pid", "/run/nginx.pid"),
        (["nginx", "-p", "/srv/n"], "pid a.pid;", "--prefix=/usr/share/nginx", "/srv/n/a.pid"),
        (["nginx", "-g", "pid /tmp/g.pid; daemon off"], "", "--pid-path=/run/nginx.pid", "/tmp/g.pid"),
        (["nginx"], "", "", "None"),
    ],
)
def test_nginx_keeps_its_pid_where_its_config_says(command, config, compiled, path) -> None:
    dump = f"# configuration file /etc/nginx/nginx.conf:\n{config}"
    assert str(pidfile(dump, compiled, command)) == path


def test_the_files_that_nginx_read_are_told_apart() -> None:
    dump = "# configuration file /a:\nx 1;\n# y 2;\n\n# configuration file /b.conf:\nz 3;\n"
    found = sections(dump)
    assert list(found) == ["/a", "/b.conf"] and "y 2" not in found["/a"] and "z 3" in found["/b.conf"]


@pytest.mark.parametrize(
    "settings, host, filled",
    [
        ({}, "local", "127.0.0.1:3001"),
        ({"address": "{host}:{port}"}, "deploy@web1.example.com:2222", "web1.example.com:3001"),
        ({"address": "{host}:{port}"}, "deploy@[::1]:22", "[::1]:3001"),
        ({"address": "{host}:{port}"}, "local", "127.0.0.1:3001"),
        ({"address": "10.0.0.7:{port}"}, "web1", "10.0.0.7:3001"),
    ],
)
def test_the_address_is_the_setting_filled_in(settings, host, filled) -> None:
    assert address(settings, 3001, host) == filled
    assert split(filled)[1] == 3001


@pytest.mark.parametrize("broken", ["3001", "a:", ":3001", "a:x", "a:0", "a:70000", "a:٣"])
def test_what_is_no_address_is_refused(broken: str) -> None:
    with pytest.raises(PoolError, match="host:port"):
        split(broken)


def test_a_target_has_the_pool_of_its_kind_or_none() -> None:
    assert pool_of({}, "my-app") is None and pool_of({"pool": None}, "my-app") is None
    base = {"timeout": 10.0}
    assert isinstance(pool_of({"pool": {**base, "kind": "nginx", "file": "/a"}}, "my-app"), Nginx)
    assert isinstance(pool_of({"pool": {**base, "kind": "nginx", "directory": "/a"}}, "my-app"), NginxDirectory)
    assert isinstance(pool_of({"pool": {**base, "kind": "caddy", "directory": "/a"}}, "my-app"), CaddyDirectory)
    for more in ({"kind": "haproxy"}, {"kind": "caddy"}, {"kind": "command", "command": ["x"]}, {"kind": "registry"}):
        assert pool_of({"pool": {**base, **more}}, "my-app") is not None
    with pytest.raises(UsageError, match="not available in this version"):
        pool_of({"pool": {**base, "kind": "traefik"}}, "my-app")


def test_an_answer_is_read_with_its_trailers() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: ETag\r\n\r\n"
    chunked = head + b'3\r\nabc\r\n2;x\r\nde\r\n0\r\nETag: "/a 1"\r\n\r\n'
    assert http_exchange.read(chunked) == (
        200, {"transfer-encoding": "chunked", "trailer": "ETag", "etag": '"/a 1"'}, b"abcde"
    )  # fmt: skip
    assert http_exchange.read(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}").body == b"{}"


@pytest.mark.parametrize(
    "cut",
    [
        b"",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_an_answer_that_is_no_whole_one_is_an_error(cut: bytes) -> None:
    with pytest.raises(OSError, match="no whole HTTP answer"):
        http_exchange.read(cut)


def test_a_pool_error_travels() -> None:
    error = PoolError("nginx refuses", cause="why", state="how", hint="what")
    assert type(DeployerError.from_json(error.to_json())) is PoolError
