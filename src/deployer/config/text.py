"""From bytes on a disk to the tables of TOML, or an error that says where it stopped."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from deployer.errors import UsageError

LARGEST = 1 << 20
_START = (
    'write one that holds app = "my-app", [build] artifact = "." and [run] command = ["node", "api.js"], '
    "or name another with -c FILE"
)


def read(file: Path) -> dict[str, Any]:
    """The tables in *file*; UsageError, never another, whatever its bytes are."""
    return _tables(_decoded(_bytes(file), file), file)


def _bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except FileNotFoundError:
        raise UsageError(f"no {file.name} found", cause=f"{file}: no such file", hint=_START) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{file} cannot be read", cause=f"{file}: {reason}", hint="name a file with -c FILE") from None
    if len(data) > LARGEST:
        raise UsageError(
            f"{file} is no deploy.toml", cause=f"{file}: larger than 1 MiB", hint="name another file with -c FILE"
        )
    return data


def _decoded(data: bytes, file: Path) -> str:
    hint = "save the file as UTF-8"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        raise UsageError(f"{file} is not UTF-8", cause=f"{file}: it looks like UTF-16, or binary", hint=hint)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        cause = f"{file}: line {line}: byte 0x{data[error.start]:02x} is not UTF-8"
        raise UsageError(f"{file} is not UTF-8", cause=cause, hint=hint) from None


def _tables(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:  # TOMLDecodeError, and integers too long for Python
        reason = _placed(str(error), text)
    hint = 'strings stand in quotes, lists in [brackets], tables on a line of their own: [run], then command = "..."'
    raise UsageError(f"{file} is not valid TOML", cause=f"{file}: {reason}", hint=hint)


def _placed(message: str, text: str) -> str:
    """tomllib's *message* with the place in front: `line 3, column 5: expected ...`."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
    if not found:
        return message.partition(";")[0]
    line, column = found[2] or text.count("\n") + 1, found[3] or len(text.rpartition("\n")[2]) + 1
    end = "" if found[2] else ", the end of the file"
    return f"line {line}, column {column}{end}: {found[1][:1].lower()}{found[1][1:]}"
