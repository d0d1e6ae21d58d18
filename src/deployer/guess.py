"""Whether a command is about hosts over SSH, told from the raw text of its config: to be wrong costs time and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

LARGEST = 1 << 18
"""Bytes of a config that are looked at."""


def over_ssh(arguments: Sequence[str]) -> tuple[str, str] | None:
    """The config and the target that *arguments* mean, where that target has `hosts`, as far as can be told without a parser."""
    file = _file(arguments)
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            targets, default = _targets(opened.read(LARGEST))
    except OSError:
        return None
    named = [word for word in arguments if word in targets]
    chosen = named[0] if named else default or (next(iter(targets)) if len(targets) == 1 else "")
    return (file, chosen) if targets.get(chosen) else None


def _file(arguments: Sequence[str]) -> str:
    found = "deploy.toml"
    for at, word in enumerate(arguments):
        if word in ("-c", "--config") and at + 1 < len(arguments):
            found = arguments[at + 1]
        elif word.startswith("--config="):
            found = word.partition("=")[2]
        elif word.startswith("-c") and not word.startswith("--") and len(word) > 2:
            found = word[2:]
    return found


def _targets(text: str) -> tuple[dict[str, bool], str]:
    """The targets, with whether they have hosts; and the default one."""
    targets: dict[str, bool] = {}
    table, default = "", ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            table = line.strip("[]").partition("]")[0].strip()
            if table.startswith("target."):
                targets.setdefault(_name(table), False)
            continue
        key, equals, value = line.partition("=")
        if equals and key.strip() == "hosts" and table.startswith("target.") and table.count(".") == 1:
            targets[_name(table)] = True
        elif equals and not table and key.strip() == "default_target":
            default = value.partition("#")[0].strip().strip("\"'")
    return targets, default


def _name(table: str) -> str:
    return table.split(".")[1].strip("\"'")
