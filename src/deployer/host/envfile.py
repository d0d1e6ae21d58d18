"""Env files: NAME=value lines, as systemd's EnvironmentFile and dotenv read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict

from deployer.errors import UsageError

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$", "`": "`"}


def read(path: Path) -> Dict[str, str]:
    """
    The names and values in *path*.

    Comments (#), blank lines, `export`, and single or double quotes are understood. Raises UsageError with the number
    of a bad line, never with its text: it may hold a secret.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(
            f"the env file {path} is missing",
            cause="run.env_file names it, and it lives on the host",
            state="nothing was changed",
            hint=f"create it there (mode 0600), or remove run.env_file: {path}",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"the env file {path} cannot be read", cause=why, state="nothing was changed") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Dict[str, str]:
    """The names and values in *text*, which came from the file *name*. Raises UsageError."""
    values = {}
    for number, line in enumerate(re.split("\r?\n", text), 1):  # splitlines() also ends a line at U+2028
        line = line.strip()
        if not line or line.startswith(("#", ";")):
            continue
        match = _LINE.fullmatch(line)
        if match is None or "\0" in line:
            raise UsageError(
                f"line {number} of the env file {name} is not NAME=value",
                state="nothing was changed",
                hint="one NAME=value a line; # starts a comment",
            )
        values[match.group(1)] = _value(match.group(2).strip(), number, name)
    return values


def _value(raw: str, number: int, name: str) -> str:
    if raw[:1] in ("'", '"'):
        quote = raw[0]
        end = _closing(raw, quote)
        if end < 0 or (raw[end + 1 :].strip() and not raw[end + 1 :].strip().startswith("#")):
            raise UsageError(
                f"line {number} of the env file {name} has an unbalanced quote", state="nothing was changed"
            )
        inner = raw[1:end]
        return inner if quote == "'" else re.sub(r"\\(.)", lambda m: _ESCAPES.get(m.group(1), m.group(0)), inner)
    return re.split(r"\s+#", raw, maxsplit=1)[0]


def _closing(raw: str, quote: str) -> int:
    position = 1
    while position < len(raw):
        if raw[position] == "\\" and quote == '"':
            position += 2
            continue
        if raw[position] == quote:
            return position
        position += 1
    return -1
