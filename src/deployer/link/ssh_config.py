"""
The user's ssh config, read as ssh reads it: Host, Match and Include; the first value of an option wins.

Ours and not paramiko's: that one lacks Include, quotes and half of the tokens, and to it a Match that it does not know
matches.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from deployer.errors import PreflightError
from deployer.link.ssh_words import BadWord, expand, matches, split

SYSTEM = Path("/etc/ssh/ssh_config")
DEEPEST = 16
MATCH_WITHIN = 20.0
"""Seconds that a `Match exec` may take."""
_LINE = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*?)\s*$", re.DOTALL)
_COLLECTED = {"identityfile", "certificatefile"}
_WHOLE_LINE = {"proxycommand", "remotecommand", "localcommand", "knownhostscommand"}
_FINAL = {"final", "canonical"}
_EITHER = {"proxyjump": "proxycommand", "proxycommand": "proxyjump"}
"""Whichever comes first."""


@dataclass(frozen=True)
class Value:
    """What an option was set to, and where."""

    words: tuple[str, ...]
    place: str

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass
class Found:
    """The options that hold for one host, by name in lower case; `identityfile` and `certificatefile` collect."""

    first: dict[str, Value] = field(default_factory=dict)
    collected: dict[str, list[Value]] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        value = self.first.get(name)
        return value.text if value else None

    def list(self, name: str) -> list[str]:
        return [value.text for value in self.collected.get(name, [])]


def home() -> Path:
    """Where `.ssh` is."""
    return Path(os.path.expanduser("~"))


def look_up(host: str, user: str | None, port: int | None, config: Path | None) -> Found:
    """
    What the ssh config says about *host*, as it was written; *user* and *port*, where given, are decided already.

    *config* stands for the user's own file and the system's. Raises PreflightError for what cannot be read or judged.
    """
    reader = _Reader(host, user, port)
    for final in (False, True):
        for file in [config] if config else [home() / ".ssh" / "config", SYSTEM]:
            reader.file(file, final, must=config is not None)
        if not reader.asked_for_final:
            break
    return reader.found


class _Reader:
    def __init__(self, host: str, user: str | None, port: int | None) -> None:
        self.found = Found()
        self.asked_for_final = False
        self._host = host.lower()
        self._me = getpass.getuser()
        if user is not None:
            self.found.first["user"] = Value((user,), "hosts")
        if port is not None:
            self.found.first["port"] = Value((str(port),), "hosts")

    def file(self, path: Path, final: bool, active: bool = True, depth: int = 0, must: bool = False) -> None:
        try:
            text = path.read_text("utf-8", "surrogateescape")
        except (FileNotFoundError, NotADirectoryError) as error:
            if must:
                raise _unread(path, error) from error
            return
        except OSError as error:
            raise _unread(path, error) from error
        outer = active
        for number, line in enumerate(text.splitlines(), 1):
            found = _LINE.match(line)
            if found is None or line.lstrip().startswith("#"):
                continue
            place, name = f"{path}:{number}", found[1].lower()
            try:
                words = [found[2]] if name in _WHOLE_LINE else split(found[2])
                if name in ("host", "match"):
                    active = outer and (matches(words, self._host) if name == "host" else self._match(words, final))
                elif name == "include":
                    self._include(words, path, final, active, depth)
                elif active and words:
                    self._set(name, Value(tuple(words), place))
            except BadWord as error:
                raise PreflightError(
                    f"{place} cannot be used: {error}", cause=line.strip(), state="nothing was changed",
                    hint=OPENSSH_HINT,
                ) from None  # fmt: skip

    def _set(self, name: str, value: Value) -> None:
        if name not in _COLLECTED:
            if _EITHER.get(name) not in self.found.first:
                self.found.first.setdefault(name, value)
            return
        values = self.found.collected.setdefault(name, [])
        if value.words not in [known.words for known in values]:
            values.append(value)

    def _include(self, patterns: list[str], path: Path, final: bool, active: bool, depth: int) -> None:
        if depth >= DEEPEST:
            raise BadWord("included too deeply")
        # Relative to ~/.ssh, or to the system's directory: not to the file.
        base = SYSTEM.parent if SYSTEM.parent in path.parents else home() / ".ssh"
        for pattern in patterns:
            for each in sorted(glob.glob(str(base / os.path.expanduser(expand(pattern, {}))))):
                self.file(Path(each), final, active, depth + 1)

    def _match(self, words: list[str], final: bool) -> bool:
        if not words:
            raise BadWord("Match without a criterion")
        holds, left = True, list(words)
        while left:
            word, equals, given = left.pop(0).partition("=")
            negated, name = word.startswith("!"), word.lstrip("!").lower()
            if name in _FINAL | {"all"}:
                self.asked_for_final |= name in _FINAL
                met = name == "all" or (final and name == "final")
            else:
                if not equals and not left:
                    raise BadWord(f"Match {name} without a value")
                argument = given if equals else left.pop(0)
                met = self._criterion(name, argument, holds)
            holds = holds and met != negated
        return holds

    def _criterion(self, name: str, argument: str, so_far: bool) -> bool:
        if name == "host":
            return matches(argument.split(","), self._resolved().lower())
        if name == "originalhost":
            return matches(argument.split(","), self._host)
        if name == "user":
            return matches(argument.split(","), self.found.text("user") or self._me)
        if name == "localuser":
            return matches(argument.split(","), self._me)
        if name == "exec":
            return so_far and self._exec(argument)
        raise BadWord(f"deployer does not know Match {name}")

    def _resolved(self) -> str:
        name = self.found.text("hostname")
        return expand(name, {"h": self._host}) if name else self._host

    def _exec(self, command: str) -> bool:
        told = {
            "h": self._resolved(), "n": self._host, "p": self.found.text("port") or "22", "u": self._me,
            "r": self.found.text("user") or self._me, "d": str(home()), "L": os.uname().nodename.partition(".")[0],
            "l": os.uname().nodename, "i": str(os.getuid()),
        }  # fmt: skip
        shell = os.environ.get("SHELL") or "/bin/sh"
        words = [shell, "-c", expand(command, told)]
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=MATCH_WITHIN, start_new_session=True
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BadWord(f"Match exec did not work: {error}") from error
        return done.returncode == 0


OPENSSH_HINT = 'mend it, or write client = "openssh" in [target.….ssh]: the system\'s own ssh reads every config'


def _unread(path: Path, error: OSError) -> PreflightError:
    return PreflightError(
        f"the ssh config {path} cannot be read", cause=error.strerror, state="nothing was changed",
        hint="[target.….ssh] config names it; without that, it is ~/.ssh/config",
    )  # fmt: skip
