"""Where something listens or lives: ports, sockets, URLs and hosts."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from deployer.config.rejected import Rejected, string

_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\\+-]*\$?")
_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[^:]*))?")


def port(value: object) -> int:
    """A TCP port, 1 to 65535."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Rejected("not a port number", "write ports as numbers, without quotes: {key} = 3001 or [3001, 3002]")
    if not 1 <= value <= 65535:
        raise Rejected("a port is a number from 1 to 65535", "write a free port above 1023, such as 3001")
    return value


def distinct_ports(value: list[int]) -> list[int]:
    """*value*, in which no port stands twice."""
    if len(set(value)) != len(value):
        raise Rejected("a port stands twice", "give each generation a port of its own: {key} = [3001, 3002]")
    return value


def sockets(value: object) -> str | list[list[str]] | None:
    """One listening address, or several by name, in the order in which the app gets them; as host/sockets.py takes them."""
    if not isinstance(value, dict):
        return None if value is None else socket(value)
    hint = 'write {key} = { http = "127.0.0.1:3001", admin = "unix:admin.sock" }'
    if not value:
        raise Rejected("no socket in it", hint)
    for name in value:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", name) or name == "health":
            raise Rejected(f"{name!r} cannot be the name of a socket", hint + "; health is the one of health.private")
    found = [[name, socket(address)] for name, address in value.items()]
    if len({address for _, address in found}) < len(found):
        raise Rejected("an address stands twice", "give each socket an address of its own")
    return found


def tcp_ports(checked: str | list[list[str]] | None) -> list[int]:
    """The ports among the addresses of `run.socket`, as `sockets` has returned it."""
    found = [checked] if isinstance(checked, str) else [address for _, address in checked or []]
    return [int(address.rpartition(":")[2]) for address in found if not address.startswith("unix:")]


def socket(value: object) -> str:
    """A listening address: `host:port`, IPv6 in brackets; or `unix:path`, below shared/ if relative."""
    if isinstance(value, str) and value.startswith("unix:"):
        return _unix(value)
    hint = 'write {key} = "127.0.0.1:3001", or "[::1]:3001" for IPv6'
    host, number = _split(string(value, "an address such as host:port", hint), hint)
    if number is None:
        raise Rejected("no port; an address is host:port", hint)
    if not host:
        raise Rejected("no host; an address is host:port", 'write {key} = "0.0.0.0:3001" to listen on all addresses')
    return str(value)


def _unix(text: str) -> str:
    path = text[len("unix:") :]
    hint = 'write {key} = "unix:/run/my-app.sock", or "unix:app.sock" for shared/app.sock'
    if not path or path.endswith("/") or ".." in path.split("/") or not path.isprintable():
        raise Rejected("not the path of a Unix socket", hint)
    if len(path.encode()) > 100:
        raise Rejected("too long: the kernel takes some 100 bytes for the path of a Unix socket", hint)
    return text


def ssh_host(value: object) -> str:
    """A host, `user@host:port`, where the user and the port may be left out, and nothing can be read as an option."""
    hint = 'write {key} = ["deploy@web1.example.com:22"]; keys and passwords do not stand here'
    if not isinstance(value, str):
        raise Rejected("not a string; a host is user@host:port", hint)
    user, at, address = value.rpartition("@")
    secret = ":" in user  # user:password@host
    if at and not _USER.fullmatch(user):
        raise Rejected("not a login name before the @", hint, secret=secret)
    host, _ = _split(string(address, "host", hint), hint)
    if not host:
        raise Rejected("no host name", hint)
    return value


def _split(text: str, hint: str) -> tuple[str, int | None]:
    """Host and port of *text*; Rejected when either could not be one."""
    parts = _ADDRESS.fullmatch(text)
    if not parts:
        raise Rejected("not an address of the form host:port", hint)
    if parts["v6"] is not None:
        _require_v6(parts["v6"], hint)
    elif parts["name"] and not _NAME.fullmatch(parts["name"]):
        raise Rejected("not a host name", hint)
    return parts["v6"] or parts["name"] or "", _number(parts["port"], hint)


def _require_v6(text: str, hint: str) -> None:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise Rejected("not an IPv6 address between the brackets", hint) from None


def _number(text: str | None, hint: str) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise Rejected("the port is not a number from 1 to 65535", hint)
    return int(text)


def url(value: object) -> str:
    """An http or https URL with a host, and without placeholders."""
    text = health_url(value)
    if "{" in text:
        raise Rejected("a placeholder, which is filled in for health.url only", "write the port as a number")
    return text


def health_url(value: object) -> str:
    """An http or https URL with a host; `{port}` may stand in it."""
    hint = 'write {key} = "http://127.0.0.1:{port}/health"'
    if not isinstance(value, str):
        raise Rejected("not a string; a URL was expected", hint)
    if "@" in value.partition("://")[2].partition("/")[0]:
        raise Rejected("credentials in a URL", "remove what stands before the @", secret=True)
    _require_plain(value, hint)
    _require_parts(value.replace("{port}", "1"), hint)
    return value


def _require_plain(text: str, hint: str) -> None:
    if not re.fullmatch(r"[!-~]+", text):
        raise Rejected("a URL holds no spaces, control or non-ASCII characters", "percent-encode them, or " + hint)
    if re.search(r"[{}]", text.replace("{port}", "")):
        raise Rejected("an unknown placeholder; only {port} is filled in", hint)


def _require_parts(text: str, hint: str) -> None:
    try:
        parts = urlsplit(text)
        number = parts.port
    except ValueError as error:
        raise Rejected(f"not a URL ({error})", hint) from None
    if parts.scheme not in ("http", "https"):
        raise Rejected("not an http or https URL", hint)
    if not parts.hostname or number == 0:
        raise Rejected("a URL without a host or with port 0", hint)


def ray(value: object) -> str:
    """The address of a Ray cluster: "auto", "host:port" or "ray://host:port"; one to connect to, none to be started."""
    hint = 'write {key} = "auto", "10.0.0.1:6379" or "ray://10.0.0.1:10001"'
    text = string(value, "the address of a Ray cluster", hint)
    if text == "auto":
        return text
    host, number = _split(text.removeprefix("ray://"), hint)
    if not host or number is None:
        raise Rejected("not an address with a host and a port", hint)
    return text
