"""The small grammar of an ssh config: words and quotes, patterns, tokens. No files, no network."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

_PATTERN = {"*": ".*", "?": "."}
_TOKEN = re.compile(r"%(.?)|\$\{([^}]*)\}", re.DOTALL)


class BadWord(Exception):
    """A text that this grammar does not have; says why."""


def split(text: str) -> list[str]:
    """The words of *text*: quotes group, a backslash before a quote, a backslash or a space takes it as it is, # ends."""
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
        elif text[at] == "#":
            break
        else:
            word, at = _word(text, at)
            words.append(word)
    return words


def _word(text: str, at: int) -> tuple[str, int]:
    word, quote = "", ""
    while at < len(text) and (quote or text[at] not in " \t"):
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] in ('"', "'", "\\", *(() if quote else (" ",))):
            at += 1
            word += text[at]
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        else:
            word += char
        at += 1
    if quote:
        raise BadWord("a quote that does not end")
    return word, at


def matches(patterns: Iterable[str], text: str) -> bool:
    """Whether one of *patterns* (`*`, `?`) is *text*, and none that begins with `!`."""
    found = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if _fits(pattern[1:], text):
                return False
        elif _fits(pattern, text):
            found = True
    return found


def _fits(pattern: str, text: str) -> bool:
    return re.fullmatch("".join(_PATTERN.get(char, re.escape(char)) for char in pattern), text, re.DOTALL) is not None


def expand(text: str, tokens: Mapping[str, str], variables: Mapping[str, str] = os.environ) -> str:
    """*text* with `%h` and `${NAME}` filled in. Raises BadWord for what is not in *tokens* or *variables*."""

    def fill(found: re.Match[str]) -> str:
        if found[2] is not None:
            if found[2] not in variables:
                raise BadWord(f"${{{found[2]}}} is not set")
            return variables[found[2]]
        if found[1] == "%":
            return "%"
        if found[1] not in tokens:
            raise BadWord(f"%{found[1]} is not known here")
        return tokens[found[1]]

    return _TOKEN.sub(fill, text)
