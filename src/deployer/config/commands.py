"""What runs or is sent: commands, signals, and the places where either may stand."""

from __future__ import annotations

import difflib
import re
import signal
import warnings

from deployer.config.addresses import url
from deployer.config.rejected import Rejected

_HINT = 'write {key} = ["node", "api.js"], or {key} = "npm run build" for a shell'
_UNCATCHABLE = ("SIGKILL", "SIGSTOP")


def command(value: object) -> list[str]:
    """An argv: a list as it stands, a string by `sh -c`."""
    if isinstance(value, str):
        return ["sh", "-c", _shell(value)]
    if not isinstance(value, list):
        raise Rejected("neither a string nor a list of strings", _HINT)
    if not value:
        raise Rejected("an empty list; a command names a program", _HINT)
    return [_argument(part, first=place == 0) for place, part in enumerate(value)]


def _shell(text: str) -> str:
    if not text.strip():
        raise Rejected("an empty command", _HINT)
    return _no_nul(text)


def _argument(part: object, *, first: bool) -> str:
    if not isinstance(part, str):
        raise Rejected("an argument that is not a string", "put every argument in quotes: " + _HINT)
    if first and not part.strip():
        raise Rejected("an empty program name", _HINT)
    return _no_nul(part)


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise Rejected("a NUL byte in a command", "remove \\u0000; no program can be given one")
    return text


def signal_name(value: object) -> str:
    """The name of a signal that a process can catch, such as "SIGTERM"."""
    if not isinstance(value, str):
        raise Rejected("not the name of a signal", 'write {key} = "SIGTERM"')
    if value in _UNCATCHABLE:
        raise Rejected("a signal that no process can catch: work would be cut", 'write {key} = "SIGTERM"')
    if value not in signal.Signals.__members__:
        raise Rejected("not a known signal", f'write {{key}} = "{_nearest_signal(value)}"')
    return value


def _nearest_signal(text: str) -> str:
    known = [name for name in signal.Signals.__members__ if name not in _UNCATCHABLE]
    name = text.strip().upper()
    near = difflib.get_close_matches(name if name.startswith("SIG") else f"SIG{name}", known, 1)
    return near[0] if near else "SIGTERM"


def quiet(value: object) -> str | list[str]:
    """A signal, a URL or a command that stops new work only."""
    if isinstance(value, str) and _looks_like_signal(value):
        return signal_name(value)
    return last_call(value)


def last_call(value: object) -> str | list[str]:
    """A URL as it stands, or a command as an argv."""
    if isinstance(value, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        return url(value)
    if isinstance(value, str) and _looks_like_signal(value):
        raise Rejected("a signal; a command or a URL was expected", 'write {key} = ["./save-work"]')
    return command(value)


def _looks_like_signal(text: str) -> bool:
    name = text.strip().upper()
    return bool(re.fullmatch(r"SIG[A-Z0-9+_-]+", name)) or f"SIG{name}" in signal.Signals.__members__


def process_pattern(value: object) -> str:
    """A regular expression for the command line of the process to adopt."""
    hint = "write {key} = 'node .*api\\.js', in single quotes"
    if not isinstance(value, str):
        raise Rejected("not a string; a regular expression was expected", hint)
    try:
        pattern = _compiled(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise Rejected(f"not a regular expression ({error})", hint) from None
    if pattern.search(""):
        raise Rejected("a pattern that matches every process", hint)
    return value


def _compiled(text: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "[[a]" may mean something else one day; that is no news for an operator
        return re.compile(text)
