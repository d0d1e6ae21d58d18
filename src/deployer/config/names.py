"""Names and paths: of the app, of targets, of variables, of files."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from deployer.config.rejected import Rejected, printable, string

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def app(value: object) -> str:
    """The app's name: a-z, 0-9 and "-", at most 63 of them; it names files and processes on the host."""
    if isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", value):
        return value
    proposal = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:63] if isinstance(value, str) else ""
    raise Rejected(
        "a name is made of a-z, 0-9 and -, starts with a letter or digit, and has at most 63 characters",
        f'write {{key}} = "{proposal or "my-app"}"',
    )


def label(text: str) -> str:
    """A name of a target or a service, as it can stand on a command line."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", text):
        raise Rejected("a name is made of letters, digits, - _ and ., and starts with a letter or digit", "rename it")
    return text


def env_name(value: object) -> str:
    """The name of a variable in the app's environment; DEPLOYER_* belong to deployer."""
    hint = 'write env = { NODE_ENV = "production" }'
    text = string(value, "variable name", hint, secret=True)
    if "=" in text or text != text.strip():
        raise Rejected('"=" or a space in a variable name', hint, secret=True)
    return _not_ours(text)


def env_value(value: object) -> str:
    """The value of a variable. It is never shown: people do put secrets there."""
    if not isinstance(value, str):
        raise Rejected("not a string; variables are text", 'quote the value: {key} = "1"', secret=True)
    if "\0" in value:
        raise Rejected("a NUL byte in a variable", "remove \\u0000 from {key}", secret=True)
    return value


_OURS = {
    "ExecStart", "ExecStartPre", "ExecStop", "ExecStopPost", "WorkingDirectory", "EnvironmentFile", "KillMode", "KillSignal",
    "FinalKillSignal", "TimeoutStopSec", "TimeoutSec", "SendSIGKILL", "Sockets", "NonBlocking", "NotifyAccess", "Restart",
}  # fmt: skip


def unit_settings(value: object) -> dict[str, Any]:
    """Settings for the [Service] section of the unit; those that the drain depends on are deployer's own."""
    hint = 'write systemd = { MemoryMax = "1G", User = "app" }'
    if not isinstance(value, dict):
        raise Rejected("not a table of settings for systemd", hint)
    for name, one in value.items():
        if name in _OURS:
            raise Rejected(
                f"{name} is set by deployer: the drain depends on it",
                f"remove {name}; drain.ceiling and run.* say the same",
            )
        if not (name.isascii() and name.isalnum()):
            raise Rejected(f"{str(name)[:40]!r} is no name of a setting", hint)
        for item in one if isinstance(one, list) else [one]:
            if not isinstance(item, (str, int, bool)) or "\n" in str(item):
                raise Rejected(f"{name} is neither text, a number nor true or false", hint)
    return dict(value)


def secret_name(value: object) -> str:
    """The name of a secret. What is no name is never shown: it may be the secret itself."""
    hint = 'write names only: secrets = ["API_TOKEN"]; values come from the environment of `deployer push`'
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise Rejected("not a variable name (letters, digits and _)", hint, secret=True)
    return _not_ours(value)


def _not_ours(name: str) -> str:
    if name.startswith("DEPLOYER_"):
        raise Rejected("DEPLOYER_* variables are set by deployer", f"rename {name}", secret=True)
    return name


def distinct(value: list[str]) -> list[str]:
    """*value*, in which nothing stands twice."""
    twice = next((item for item in value if value.count(item) > 1), None)
    if twice is not None:
        raise Rejected(f"{twice} stands twice", f"remove one {twice}", secret=True)
    return value


def inside(value: object) -> str:
    """A relative path that stays below where it starts, in its plainest form."""
    hint = 'write a relative path such as "data", without ..'
    path = PurePosixPath(string(value, "path", hint))
    if path.is_absolute() or str(path).startswith("~"):
        raise Rejected("an absolute path; this one lives in shared/ on the host", hint)
    if ".." in path.parts or not path.parts:
        raise Rejected("a path that leaves, or is, the directory it starts in", hint)
    return str(path)


def not_nested(value: list[str]) -> list[str]:
    """*value*, in which no path stands twice or inside another."""
    for outer in distinct(value):
        for path in value:
            if PurePosixPath(outer) in PurePosixPath(path).parents:
                raise Rejected(f"{path} lies inside {outer}, which is linked already", f"remove {path}")
    return value


def local_path(value: object) -> str:
    """A path on the machine that builds."""
    return string(value, "path", 'write {key} = "dist"')


def host_path(value: object) -> str:
    """Where an app lives on a host; `~` is left for the host to expand."""
    hint = 'write {key} = "/srv/my-app", or "~/my-app" for the login user\'s home'
    text = string(value, "path", hint)
    if text.startswith("~") and text != "~" and not text.startswith("~/"):
        raise Rejected("the home of another user", hint)
    if not PurePosixPath(text).parts or set(text) == {"/"}:
        raise Rejected("not a directory for one app", hint)
    return text


def pidfile(value: object) -> str:
    """An absolute path on the host, or one below `~/`."""
    hint = 'write {key} = "/run/agent.pid"'
    text = string(value, "path", hint)
    if not text.startswith(("/", "~/")):
        raise Rejected("a relative path; the pid file is looked for on the host", hint)
    return text


def unit(value: object) -> str:
    """The name of a systemd unit."""
    hint = 'write {key} = "agent.service"'
    text = string(value, "unit name", hint)
    if not re.fullmatch(r"[A-Za-z0-9:_.@\\][A-Za-z0-9:_.@\\-]*", text):
        raise Rejected("not the name of a systemd unit", hint)
    return text


def pattern(value: object) -> str:
    """One line of gitignore syntax."""
    hint = 'write exclude = [".git/", "node_modules/"]'
    return printable(string(value, "pattern", hint), "pattern", hint)


def python_class(value: object) -> str:
    """A class, as `package.module:Class`; with a dot for the colon too."""
    hint = 'write class = "my_app.services:Cache"'
    text = string(value, "class", hint)
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*", text):
        raise Rejected("not a class of the form module:Class", hint)
    return text if ":" in text else ":".join(text.rsplit(".", 1))


def distinct_hosts(value: list[str]) -> list[str]:
    """*value*, which names at least one host, and none twice."""
    if not value:
        raise Rejected("an empty list", "name a host, or remove hosts: without it the target is this machine")
    return distinct(value)


def json_pointer(value: object) -> str:
    """A JSON pointer (RFC 6901) into the answer of `health.url`."""
    hint = 'write {key} = "/claudeBusy"'
    text = string(value, "JSON pointer", hint)
    if not re.fullmatch(r"(/([^~]|~[01])*)+", text):
        raise Rejected("not a JSON pointer: it starts with /, and ~ stands as ~0", hint)
    return text
