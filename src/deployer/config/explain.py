"""From what pydantic found to what a person can mend: the key, why its value cannot be used, what to write."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from deployer.config.rejected import Rejected
from deployer.config.schema import TABLES, Table, Target, Top
from deployer.errors import UsageError

Place = tuple[str | int, ...]
_LISTED = 20
_SHAPES = {
    "dict_type": ("not a table", "write [{path}] on a line of its own, and its keys below it"),
    "model_type": ("not a table", "write [{path}] on a line of its own, and its keys below it"),
    "list_type": ("not a list", 'write {key} = ["..."], in brackets'),
    "string_type": ("not a string", 'write {key} = "...", in quotes'),
}


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a `deploy.toml` from being used; `shown` is the value where it may be seen."""

    place: Place
    why: str
    hint: str
    shown: str | None = None

    def line(self) -> str:
        """Such as `health.interval = 200: a bare number; durations carry a unit`."""
        value = f" = {self.shown}" if self.shown is not None else ""
        return f"{spell(self.place)}{value}: {self.why}"


def spell(place: Place) -> str:
    """*place* as TOML spells it: `target.production.hosts[0]`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else ("." if text else "") + _key(part)
    return text


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def show(value: object) -> str:
    """*value* as TOML would spell it, shortened, and safe to print on a terminal."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{...}"
    if isinstance(value, list):
        return "[...]" if value else "[]"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a very large number"
    text = json.dumps(value, ensure_ascii=not value.isprintable()) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def problems(error: ValidationError, model: type[Table], above: Place) -> Iterator[Problem]:
    """What *error* says of the table *model* that stands at *above*."""
    for found in error.errors(include_url=False):
        place = above + tuple(part for part in found["loc"] if part != "[key]")
        yield _problem(found, model, _masked(place) if "[key]" in found["loc"] else place)


def _masked(place: Place) -> Place:
    # "TOKEN=abc" as a key: the part after the = may be a secret.
    name, equals, _ = str(place[-1]).partition("=")
    return (*place[:-1], f"{name}=..." if equals else name)


def _problem(found: Any, model: type[Table], place: Place) -> Problem:
    if found["type"] == "extra_forbidden":
        return unknown(place, known_keys(model))
    if found["type"] == "missing":
        return Problem(place, "missing", _filled(_MISSING.get(str(place[-1]), 'add {key} = "..."'), place))
    reason = found.get("ctx", {}).get("error")
    if isinstance(reason, Rejected):
        shown = None if reason.secret else show(found["input"])
        return Problem(place, reason.why, _filled(reason.hint, place), shown)
    why, hint = _SHAPES.get(found["type"], (found["msg"], "deploy.example.toml shows every key with its value"))
    # Whatever has the wrong shape may be a table of secrets: only plain numbers and flags are repeated.
    plain = isinstance(found["input"], (int, float)) and "env" not in place
    return Problem(place, why, _filled(hint, place), show(found["input"]) if plain else None)


_MISSING = {
    "app": 'add app = "my-app" at the top of the file',
    "start": 'add start = ["supervisorctl", "start", "my-app"]',
    "stop": 'add stop = ["supervisorctl", "stop", "my-app"]',
    "status": 'add status = ["supervisorctl", "status", "my-app"]; exit code 0 means that it runs',
    "kind": 'add kind = "haproxy"',
    "url": 'add url = "https://agent.example.com/health"',
}


def _filled(hint: str, place: Place) -> str:
    names = [part for part in place if isinstance(part, str)]
    return hint.replace("{key}", _key(names[-1])).replace("{path}", spell(place))


def known_keys(model: type[Table]) -> list[str]:
    """The keys of the table *model*, as the file spells them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Which of *known* was meant by *name*: one that is spelled alike, or that it abbreviates."""
    names = list(known)
    alike = difflib.get_close_matches(name.lower(), names, 1)
    short = [full for full in names if len(name) > 2 and full.startswith(name.lower())]
    return next(iter(alike + short), None)


def unknown(place: Place, known: Sequence[str]) -> Problem:
    """The problem of a key that nobody knows, with the nearest that somebody does."""
    name = str(place[-1])
    near = nearest(name, known)
    hint = f'did you mean "{near}"?' if near else _elsewhere(name) or f"known here: {', '.join(known)}"
    return Problem(place, "unknown key", hint)


def _elsewhere(name: str) -> str | None:
    tables = [f"[{table}]" for table, model in TABLES.items() if name in known_keys(model)]
    if name in known_keys(Target) and name not in known_keys(Top):
        tables.append("[target.NAME]")
    if name in ("app", "strategy", "default_target"):
        return f'"{name}" stands at the top of the file, above every [table]'
    return f'"{name}" belongs to {" or ".join(tables)}' if tables else None


def refuse(file: str, found: Sequence[Problem]) -> UsageError:
    """One error for all problems of *file*: the first with its hint, the others below it with theirs."""
    first, *others = found
    lines = [f"{file}: {first.line()}", *(f"{file}: {other.line()} ({other.hint})" for other in others)]
    if len(lines) > _LISTED:
        lines[_LISTED:] = [f"... and {len(lines) - _LISTED} more"]
    more = f", and {len(others)} more problem{'s' if len(others) > 1 else ''}" if others else ""
    return UsageError(f"{file}: {spell(first.place)} cannot be used{more}", cause="\n".join(lines), hint=first.hint)
