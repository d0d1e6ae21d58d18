"""The keys of `[target.NAME.pool]`: what each may hold, and which kind of pool knows it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deployer.config import addresses, commands
from deployer.config.explain import Place, Problem
from deployer.config.rejected import Rejected, string

_COMMON = ("kind", "address", "timeout", "drain_within")
KEYS: dict[str, tuple[str, ...]] = {
    "nginx": ("directory", "file", "upstream", "command", "pidfile"),
    "haproxy": ("socket", "backend", "servers", "leave", "state_file"),
    "caddy": ("admin", "id", "directory", "origin"),
    "registry": ("url", "node", "token_file"),
    "command": ("command", "counts"),
}
"""The kinds, each with the keys that only some of them have."""

_REQUIRED: dict[str, dict[str, str]] = {
    "command": {"command": 'add command = ["/srv/pool.sh"]; it is run as `/srv/pool.sh join 127.0.0.1:3001`'},
}


def problems(place: Place, pool: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong between the keys of *pool*, as they are written at *place*; each of them is valid for itself."""
    kind = str(pool["kind"])
    for key in pool:
        if key not in (*_COMMON, *KEYS[kind]):
            others = [other for other, keys in KEYS.items() if key in keys]
            hint = f"remove {key}; a pool of kind {kind} knows {', '.join((*_COMMON, *KEYS[kind]))}"
            yield Problem((*place, key), f'it belongs to kind = "{_either(others)}"', hint)
    for key, hint in _REQUIRED.get(kind, {}).items():
        if key not in pool:
            yield Problem((*place, key), f"missing; a pool of kind {kind} needs it", hint)
    yield from _one_way_to_switch(kind, place, pool)


def _either(kinds: list[str]) -> str:
    return '" or "'.join(kinds)


def _one_way_to_switch(kind: str, place: Place, pool: Mapping[str, Any]) -> Iterator[Problem]:
    other = {"nginx": "file", "caddy": "id"}.get(kind)
    if other and "directory" in pool and other in pool:
        hint = f"keep directory, which loses nothing, or {other}, for which {kind} loads a config"
        yield Problem((*place, other), f"{other} and directory stand together; {kind} is switched in one way", hint)
    if kind == "nginx" and "directory" not in pool and "file" not in pool:
        hint = 'add directory = "/srv/my-app-live" or file = "/etc/nginx/deployer/my-app.conf"; deploy.example.toml tells both'
        yield Problem((*place, "directory"), "missing, and file too: nothing says how nginx is switched", hint)


def address(value: object) -> str:
    """How the pool reaches the app: host:port, in which {port} and {host} are filled in."""
    hint = 'write {key} = "127.0.0.1:{port}", or "{host}:{port}"'
    text = string(value, "an address such as 127.0.0.1:{port}", hint)
    if re.search(r"[{}]", text.replace("{port}", "").replace("{host}", "")):
        raise Rejected("an unknown placeholder; {port} and {host} are filled in", hint)
    if not text.endswith(":{port}"):
        raise Rejected("not of the form host:{port}; two generations have two ports", hint)
    addresses.socket(text.replace("{port}", "1").replace("{host}", "h"))
    return text


def path(value: object) -> str:
    """An absolute path on the host, or one below `~/`."""
    hint = 'write {key} = "/srv/my-app/...", an absolute path on the host'
    text = string(value, "path", hint)
    if not text.startswith(("/", "~/")):
        raise Rejected("a relative path; it is looked for on the host", hint)
    if text.endswith("/") or ".." in text.split("/"):
        raise Rejected("not the plain path of a file or directory", hint)
    return text


def name(value: object) -> str:
    """A name in a proxy's config, which cannot be taken for a command of its own."""
    hint = 'write {key} = "my-app"'
    text = string(value, "name", hint)
    if not re.fullmatch(r"[A-Za-z0-9_.:-]+", text) or text.startswith("-"):
        raise Rejected("a name is made of letters, digits and _ . : -", hint)
    return text


def socket(value: object) -> str:
    """A unix socket by its path, or host:port."""
    hint = 'write {key} = "/run/haproxy/admin.sock", or "127.0.0.1:9999"'
    text = string(value, "path or address", hint)
    return path(text) if text.startswith(("/", "~")) else _with_hint(text, hint)


def admin(value: object) -> str:
    """Where Caddy's admin API listens, as Caddy spells it."""
    hint = 'write {key} = "127.0.0.1:2019", or "unix//run/caddy/admin.sock"'
    text = string(value, "address", hint)
    if text.startswith("unix/"):
        path(text.removeprefix("unix/"))
        return text
    return _with_hint(text.removeprefix("http://").removesuffix("/"), hint)


def _with_hint(text: str, hint: str) -> str:
    try:
        return addresses.socket(text)
    except Rejected as error:
        raise Rejected(error.why, hint) from None


def origin(value: object) -> str:
    """One of `admin.origins` in Caddy's config."""
    hint = 'write {key} = "deployer", one of admin.origins in caddy\'s config'
    text = string(value, "origin", hint)
    if not re.fullmatch(r"[!-~]+", text):
        raise Rejected("an origin holds no spaces or non-ASCII characters", hint)
    return text


def registry(value: object) -> str:
    """Where the node registry answers HTTP; the address that nodes connect to is the same one, and taken as well."""
    hint = 'write {key} = "http://127.0.0.1:7070"'
    text = string(value, "the registry's address", hint)
    found = re.fullmatch(r"(?:http|ws)(s?)://([^/?#@]+)/?", text)
    if not found:
        raise Rejected("not the address of a registry: http:// or https://, a host and a port", hint)
    _with_hint(found[2] if ":" in found[2].rpartition("]")[2] else f"{found[2]}:7070", hint)
    return f"http{found[1]}://{found[2]}"


def node(value: object) -> str:
    """The id of this host's node; {host} and {app} are filled in."""
    hint = 'write {key} = "node-1", or "{host}"'
    text = string(value, "the id of a node", hint)
    if re.search(r"[{}]", text.replace("{host}", "").replace("{app}", "")):
        raise Rejected("an unknown placeholder; {host} and {app} are filled in", hint)
    if not text.isprintable() or len(text) > 200:
        raise Rejected("not the id of a node: 1 to 200 printable characters", hint)
    return text


def command(value: object) -> list[str]:
    """An argv that arguments are appended to; a string runs by `sh -c`, with the arguments behind its last word."""
    argv = commands.command(value)
    # Without "$@" the shell would run the text and drop what we append.
    return ["sh", "-c", f'{argv[2]} "$@"', "sh"] if isinstance(value, str) else argv
