"""Words and numbers for a person: safe text, sizes, ages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from deployer import durations

# CSI, OSC and other string sequences (ended or cut short), two-character escapes.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# Other control characters, and those that turn the direction of text around.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """*text* from outside without escape sequences and control characters: it cannot move a cursor or set a title."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text)).replace("\t", "    ")


def one_line(text: object, limit: int = 200) -> str:
    """*text*, cleaned, in one line of at most *limit* characters."""
    joined = " ".join(clean(str(text)).split())
    return joined if len(joined) <= limit else joined[: limit - 1] + "…"


def size(count: float) -> str:
    """*count* bytes for a person: "812 B", "4 kB", "3.1 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.1f} {unit}" if count < 9.95 and unit not in ("B", "kB") else f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def names(hosts: Sequence[object], most: int = 12) -> str:
    """ "web-1, web-2 and 298 more": at most *most* of them, none left out where one more would have fitted."""
    shown = hosts if len(hosts) <= most else hosts[: most - 1]
    listed = ", ".join(one_line(host, 60) for host in shown)
    return listed if len(shown) == len(hosts) else f"{listed} and {len(hosts) - len(shown)} more"


def of_host(host: object, words: object) -> str:
    """*words* about *host*, beside its name: "web-1 refused the connection" becomes "refused the connection"."""
    plain = one_line(words)
    return plain.removeprefix(f"{host}: ").removeprefix(f"{host} ")


def moment(text: object) -> datetime | None:
    """The time in an ISO 8601 *text*, or None."""
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def between(start: object, end: object) -> float | None:
    """Seconds from one ISO time to another, or None."""
    first, last = moment(start), moment(end)
    return (last - first).total_seconds() if first and last else None


def took(seconds: object) -> str:
    return durations.show(float(seconds)) if isinstance(seconds, int | float) else ""


def gap(milliseconds: float) -> str:
    """How long no new request was served: "gap 83 ms", "gap 2.1s"."""
    return f"gap {milliseconds:.0f} ms" if milliseconds < 1000 else f"gap {took(milliseconds / 1000)}"


def task(item: Mapping[str, Any], later: float = 0.0) -> str:
    """A task with its age, *later* seconds after it was reported: "callClaude 4m12s"."""
    name = one_line(item.get("name") or item.get("id") or "task", 60)
    age = item.get("age_s")
    return f"{name} {durations.show(age + later)}" if isinstance(age, int | float) else name


def process(item: Mapping[str, Any]) -> str:
    command = item.get("command") or ""
    words = " ".join(map(str, command)) if isinstance(command, list) else command
    return f"pid {item.get('pid', '?')} {one_line(words, 80)}".rstrip()


def joined(*parts: str | None) -> str:
    """The parts that say something, with a dot between them."""
    return " · ".join(part for part in parts if part)
