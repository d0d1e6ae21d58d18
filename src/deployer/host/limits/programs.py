"""Which programs a command line runs: behind wrappers, interpreters and shells, with the arguments of each."""

from __future__ import annotations

import os
import re
import shlex
from typing import List, Sequence, Tuple

Program = Tuple[str, List[str]]
"""A program's name, such as "gunicorn", and its arguments."""

_WRAPPERS = (
    "env", "exec", "nice", "ionice", "nohup", "setsid", "stdbuf", "chrt", "taskset", "sudo", "gosu", "su-exec", "setpriv",
    "tini", "dumb-init", "catatonit", "uv", "uvx", "poetry", "pipenv", "pdm", "hatch", "rye", "bundle", "bundler", "npx",
    "command", "time",
)  # fmt: skip
_INTERPRETERS = re.compile(r"(?:python|pypy|ruby|node|php)[\d.]*$")
_SHELLS = ("sh", "bash", "dash", "ash", "zsh", "ksh")
_VALUED = ("-W", "-X", "-r", "-I", "--require")
"""Options of interpreters that a value follows."""
DEPTH = 8
"""Programs within programs that are looked through: more is no command line of a person."""


def programs(argv: Sequence[str], known: Sequence[str], depth: int = 0) -> List[Program]:
    """
    The programs of *argv* that are among *known*, the outermost first.

    `timeout 30 sh -c "exec gunicorn app"` has two. A process that has given itself a title ("gunicorn: master [app]") is
    known by its first word; its arguments are gone.
    """
    if not argv or depth > DEPTH:
        return []
    name, rest = _name(argv[0], known), list(argv[1:])
    here = [(name, rest)] if name in known else []
    return here + [found for inner in _inside(name, rest, known) for found in programs(inner, known, depth + 1)]


def has_title(argv: Sequence[str]) -> bool:
    """Whether *argv* is a title that the process has given itself, and no command line."""
    return bool(argv) and argv[0] != _titled(argv[0])


def _titled(word: str) -> str:
    return re.split(r":? ", word.strip(), maxsplit=1)[0].rstrip(":")


def _name(word: str, known: Sequence[str]) -> str:
    """ "php-fpm8.2" and "PM2" are known without their number, and in small letters."""
    name = os.path.basename(_titled(word)).lower()
    plain = re.sub(r"[\d.]+$", "", name)
    return plain if plain in known and name not in known else name


def _inside(name: str, rest: List[str], known: Sequence[str]) -> List[List[str]]:
    """The command lines that *name* with the arguments *rest* runs in its turn."""
    if name in _SHELLS:
        return _lines(rest)
    if _INTERPRETERS.match(name):
        return _script(rest)
    if name in _WRAPPERS or name == "timeout":
        return _wrapped(rest, known)
    return []


def _lines(rest: Sequence[str]) -> List[List[str]]:
    for place, word in enumerate(rest):
        if re.match(r"-[a-z]*c$", word):
            return _split(rest[place + 1]) if place + 1 < len(rest) else []
    return []


def _split(text: str) -> List[List[str]]:
    """The simple commands of a line of shell; none where it cannot be read."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    found: List[List[str]] = [[]]
    try:
        for word in lexer:
            if set(word) <= set("();<>|&"):
                found.append([])
            elif found[-1] or not re.match(r"\w+=", word):  # NAME=value before a command is its environment
                found[-1].append(word)
    except ValueError:  # an open quote
        return []
    return [line for line in found if line]


def _script(rest: Sequence[str]) -> List[List[str]]:
    place = 0
    while place < len(rest) and rest[place].startswith("-"):
        if rest[place] == "-m":
            return [list(rest[place + 1 :])]
        if rest[place] in ("-c", "-e"):
            return []
        place += 2 if rest[place] in _VALUED else 1
    return [list(rest[place:])]


def _wrapped(rest: Sequence[str], known: Sequence[str]) -> List[List[str]]:
    # Wrappers have options with values: the first word that can be a program we look for is it.
    for place, word in enumerate(rest):
        name = _name(word, known)
        if name in known or name in _WRAPPERS or name in _SHELLS or name == "timeout" or _INTERPRETERS.match(name):
            return [list(rest[place:])]
    return []
