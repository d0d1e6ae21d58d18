"""[target.NAME.pool]: what a good one means, and what each mistake is told."""

import json

import pytest

from deployer.config.load import load
from deployer.errors import UsageError

APP = 'app = "my-app"\n[run]\ncommand = ["node", "api.js"]\nports = [3001, 3002]\n[target.p.pool]\n'


@pytest.fixture
def pool(tmp_path):
    def read(lines):
        file = tmp_path / "deploy.toml"
        file.write_text(APP + lines)
        return load(file, "p").target_table["pool"]

    return read


def given(found):
    return {key: value for key, value in found.items() if value is not None}


def test_the_smallest_pool_has_the_defaults(pool):
    assert given(pool('kind = "haproxy"')) == {
        "kind": "haproxy",
        "address": "127.0.0.1:{port}",
        "timeout": 10.0,
        "drain_within": 30.0,
    }


@pytest.mark.parametrize(
    "lines, read",
    [
        (
            'kind = "nginx"\nfile = "/etc/nginx/d/a.conf"\nupstream = "a"\ncommand = ["sudo", "nginx"]\npidfile = "~/n.pid"',
            {"file": "/etc/nginx/d/a.conf", "upstream": "a", "command": ["sudo", "nginx"], "pidfile": "~/n.pid"},
        ),
        ('kind = "nginx"\ndirectory = "/srv/live"', {"directory": "/srv/live"}),
        (
            'kind = "haproxy"\nsocket = "127.0.0.1:9999"\nbackend = "b"\nleave = "maint"\nservers = { "127.0.0.1:3001" = "blue" }',
            {"socket": "127.0.0.1:9999", "backend": "b", "leave": "maint", "servers": {"127.0.0.1:3001": "blue"}},
        ),
        ('kind = "haproxy"\nstate_file = "/var/a.state"', {"state_file": "/var/a.state"}),
        ('kind = "caddy"\nadmin = "unix//run/c.sock"\nid = "a"', {"admin": "unix//run/c.sock", "id": "a"}),
        ('kind = "caddy"\nadmin = "http://127.0.0.1:2019/"', {"admin": "127.0.0.1:2019"}),
        ('kind = "caddy"\ndirectory = "~/live"\norigin = "deployer"', {"directory": "~/live", "origin": "deployer"}),
        ('kind = "command"\ncommand = ["/p.sh"]\ncounts = true', {"command": ["/p.sh"], "counts": True}),
        ('kind = "registry"\naddress = "{host}:{port}"', {"address": "{host}:{port}"}),
        ('kind = "registry"\naddress = "[::1]:{port}"\ntimeout = "2s"', {"address": "[::1]:{port}", "timeout": 2.0}),
        ('kind = "registry"\ndrain_within = "0s"', {"drain_within": 0.0}),
        ('kind = "registry"\nurl = "wss://r.example.com/"', {"url": "https://r.example.com"}),
        (
            'kind = "registry"\nurl = "http://[::1]:7070"\nnode = "{app}@{host}"\ntoken_file = "~/t"',
            {"url": "http://[::1]:7070", "node": "{app}@{host}", "token_file": "~/t"},
        ),
    ],
)
def test_every_kind_has_its_own_keys(pool, lines, read):
    found = pool(lines)
    assert read.items() <= found.items()
    assert json.loads(json.dumps(found)) == found, "it travels to the host"


def test_a_command_that_is_a_string_passes_its_arguments_on(pool):
    assert pool('kind = "command"\ncommand = "/p.sh --balancer b1"')["command"] == [
        "sh",
        "-c",
        '/p.sh --balancer b1 "$@"',
        "sh",
    ]


@pytest.mark.parametrize(
    "lines, key, why, hint",
    [
        ('kind = "nginx"', "directory", "nothing says how nginx is switched", "file ="),
        ('kind = "nginx"\nfile = "/a"\ndirectory = "/b"', "file", "stand together", "loses nothing"),
        ('kind = "caddy"\nid = "a"\ndirectory = "/b"', "id", "stand together", "loses nothing"),
        ('kind = "command"', "command", "a pool of kind command needs it", "command ="),
        ('kind = "haproxy"\nfile = "/a"', "file", 'kind = "nginx"', "socket, backend"),
        ('kind = "haproxy"\ncommand = ["x"]', "command", 'kind = "nginx" or "command"', "remove command"),
        ('kind = "registry"\ncounts = true', "counts", 'kind = "command"', "remove counts"),
        ('kind = "caddy"\nbackend = "b"', "backend", 'kind = "haproxy"', "admin, id"),
        ('kind = "nginx"\nfile = "pool.conf"', "file", "a relative path", "absolute"),
        ('kind = "nginx"\nfile = "/a/../b"', "file", "not the plain path", "absolute"),
        ('kind = "nginx"\nfile = "/a"\nupstream = "a;b"', "upstream", "letters, digits", "my-app"),
        ('kind = "nginx"\nfile = "/a"\ncommand = []', "command", "empty list", "command ="),
        ('kind = "haproxy"\nbackend = "a b"', "backend", "letters, digits", "my-app"),
        ('kind = "haproxy"\nbackend = "a\\nshutdown"', "backend", "control character", "my-app"),
        ('kind = "haproxy"\nsocket = "admin"', "socket", "no port", "admin.sock"),
        ('kind = "haproxy"\nleave = "kill"', "leave", "not one of drain, maint", '"drain"'),
        ('kind = "haproxy"\nservers = { "127.0.0.1" = "a" }', 'servers."127.0.0.1"', "no port", "3001"),
        ('kind = "haproxy"\nservers = ["a"]', "servers", "not a table", "[target.p.pool.servers]"),
        ('kind = "caddy"\nadmin = "unix/run"', "admin", "a relative path", "absolute"),
        ('kind = "caddy"\nadmin = "localhost"', "admin", "no port", "unix//run"),
        ('kind = "caddy"\norigin = "a b"', "origin", "spaces", "origin ="),
        ('kind = "registry"\naddress = "127.0.0.1:3001"', "address", "two generations have two ports", "{port}"),
        ('kind = "registry"\naddress = "{ip}:{port}"', "address", "an unknown placeholder", "{host}"),
        ('kind = "registry"\naddress = "a b:{port}"', "address", "not a host name", "127.0.0.1"),
        ('kind = "registry"\nurl = "127.0.0.1:7070"', "url", "not the address of a registry", "http://127.0.0.1:7070"),
        ('kind = "registry"\nurl = "http://joe:pw@r:7070"', "url", "not the address of a registry", "http://"),
        ('kind = "registry"\nnode = "{pid}"', "node", "an unknown placeholder", "{host}"),
        ('kind = "haproxy"\nnode = "a"', "node", 'kind = "registry"', "remove node"),
        ('kind = "registry"\ntimeout = 10', "timeout", "bare number", '"10s"'),
        ('kind = "command"\ncommand = ["x"]\ncounts = "yes"', "counts", "neither true nor false", "counts = true"),
        ('kind = "haproxy"\nbackends = "a"', "backends", "unknown key", '"backend"'),
    ],
)
def test_every_mistake_is_named_with_its_key_and_a_way_out(pool, lines, key, why, hint):
    with pytest.raises(UsageError) as caught:
        pool(lines)
    first = caught.value.cause.splitlines()[0]
    assert f"target.p.pool.{key}" in first and why in first
    assert hint in caught.value.hint
