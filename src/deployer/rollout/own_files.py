"""Which files of a release are a service's own: when they change, a push replaces the service, and else keeps it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from deployer.errors import UsageError
from deployer.manifest import Entry, Manifest

NOTHING = ""
"""The digest of a service that has no file of the release."""
READS_WHERE_IT_WORKS = (
    "bun bundle bunx cargo deno foreman go gradle honcho just make mix mvn npm npx pipenv pnpm poetry rake uv uvx yarn"
)
"""Programs that take what they run from the directory in which they are called, and name no file of it."""
_WORD = re.compile(r"[^\s'\"=:,;|&<>(){}$`]+")


def own_files(manifest: Manifest, services: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """
    A digest for each of *services* (their settings by name) of the files that are its own; NOTHING where it has none.

    `files` says which they are. Without it: all of the release for a class, and for a command that names something of it or
    runs what it finds in its directory; else none. Raises UsageError for a bad pattern.
    """
    if not services:
        return {}
    paths = _paths(manifest)
    return {name: _digest(manifest, paths, table) for name, table in services.items()}


def _digest(manifest: Manifest, paths: frozenset[str], table: Mapping[str, Any]) -> str:
    if table.get("files") is not None:
        return _of(_matching(manifest, table["files"]))
    return manifest.digest if table.get("class") or _names_any(table, paths) else NOTHING


def _of(entries: Iterable[Entry]) -> str:
    found = Manifest(entries)
    return found.digest if found.entries else NOTHING


def _matching(manifest: Manifest, patterns: list[str]) -> Iterator[Entry]:
    if not patterns:
        return iter(())
    from pathspec import GitIgnoreSpec  # 10 ms, and most configs have no patterns

    try:
        spec = GitIgnoreSpec.from_lines(patterns, backend="simple")
    except ValueError as error:
        raise UsageError("services.*.files has a bad pattern", cause=str(error), state="nothing was changed") from error
    return (one for one in manifest.entries if spec.match_file(f"{one.path}/" if one.type == "d" else one.path))


def _paths(manifest: Manifest) -> frozenset[str]:
    """Every path of the release, directories that are not listed too."""
    found: set[str] = set()
    for entry in manifest.entries:
        path = entry.path
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]
    return frozenset(found)


def _names_any(table: Mapping[str, Any], paths: frozenset[str]) -> bool:
    words = [part for word in table["command"] for part in _WORD.findall(word)]
    if any(posixpath.basename(word) in READS_WHERE_IT_WORKS.split() for word in words):
        return True
    values = [part for value in table["env"].values() for part in _WORD.findall(value)]
    return _is_relative(table["command"][0]) or any(_is_there(word, paths) for word in [*words, *values])


def _is_relative(program: str) -> bool:
    """Whether *program* is one of the release, also where only `install` makes it: ".venv/bin/python"."""
    return "/" in program and not program.startswith("/")


def _is_there(word: str, paths: frozenset[str]) -> bool:
    path = posixpath.normpath(word)
    module = word.replace(".", "/")  # python -m my_app.cache
    return path == "." or path in paths or module in paths or f"{module}.py" in paths
