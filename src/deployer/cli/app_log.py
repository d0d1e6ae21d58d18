"""The app's own output on its way to a file, a terminal or a program; of one host, or of many side by side."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

from deployer.cli.render.json import encode, stamped
from deployer.cli.render.lines import Layout
from deployer.cli.render.text import clean, one_line
from deployer.cli.session import Session
from deployer.errors import DeployerError

LONGEST = 1 << 20
"""Bytes of one line that are kept until its end comes; what is longer is shown in pieces."""


class LogWriter(Protocol):
    def write(self, host: str, data: bytes) -> None:
        """Take some bytes of *host*'s log; raises BrokenPipeError when nobody reads any more."""

    def missing(self, host: str, error: DeployerError) -> None:
        """Nothing (more) comes from *host*."""

    def close(self) -> None:
        """Write what was held back."""


def log_writer(session: Session, follow: bool, hosts: Sequence[str]) -> LogWriter:
    """
    Who writes the logs of *hosts*: byte for byte into a file or pipe, without escape sequences on a terminal.

    Of several hosts each line stands alone, behind the host's name. Under `--json` it is one object for each host with
    all its `lines`, or while following one object for each piece.
    """
    out, many = session.out, Layout(tuple(hosts)).width if len(hosts) > 1 else 0
    if session.options.json:
        return JsonLog(session, follow)
    if many or out.is_terminal:
        return LineLog(session, many)
    return RawLog(session)


class _Log:
    """What every writer does with a host that has nothing to say."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._out = session.out

    def missing(self, host: str, error: DeployerError) -> None:
        self._session.voice.errors([(host, error)])

    def _still_read(self) -> None:
        if self._out.closed:
            raise BrokenPipeError


class RawLog(_Log):
    def write(self, host: str, data: bytes) -> None:
        self._out.write_bytes(data)
        self._still_read()

    def close(self) -> None:
        """Nothing is held back."""


class LineLog(_Log):
    """Whole lines, behind the host's name where *width* leaves room for one; as they are unless a person looks on."""

    def __init__(self, session: Session, width: int) -> None:
        super().__init__(session)
        self._width = width
        self._rest: dict[str, bytes] = {}

    def write(self, host: str, data: bytes) -> None:
        *lines, rest = (self._rest.get(host, b"") + data).split(b"\n")
        if len(rest) > LONGEST:
            lines, rest = [*lines, rest], b""
        self._rest[host] = rest
        for line in lines:
            self._line(host, line)
        self._still_read()

    def close(self) -> None:
        for host, rest in self._rest.items():
            if rest:
                self._line(host, rest)
        self._rest = {}

    def _line(self, host: str, line: bytes) -> None:
        head = f"{one_line(host, 40):<{self._width}}  | " if self._width else ""
        if self._out.is_terminal:
            self._out.line(head + clean(line.decode("utf-8", "replace")))
        else:
            self._out.write_bytes(head.encode() + line + b"\n")


class JsonLog(_Log):
    def __init__(self, session: Session, follow: bool) -> None:
        super().__init__(session)
        self._follow = follow
        self._all: dict[str, list[str]] = {}
        self._lines: dict[str, _Lines] = {}

    def write(self, host: str, data: bytes) -> None:
        self._of(host).write(data)

    def missing(self, host: str, error: DeployerError) -> None:
        super().missing(host, error)
        self._emit(host, self._all.pop(host, []), error)

    def close(self) -> None:
        for lines in self._lines.values():
            lines.close()
        for host, found in self._all.items():
            self._emit(host, found)

    def _of(self, host: str) -> _Lines:
        if host not in self._lines:
            kept = [] if self._follow else self._all.setdefault(host, [])
            self._lines[host] = _Lines((lambda lines: self._emit(host, lines)) if self._follow else kept.extend)
        return self._lines[host]

    def _emit(self, host: str, lines: list[str], error: DeployerError | None = None) -> None:
        data = {"host": host, "lines": lines, **({"error": error.to_json()} if error else {})}
        self._out.line(encode(stamped("logs", data)))
        self._still_read()


class _Lines:
    """Whole lines of text out of pieces of bytes: an escape sequence cut in two cannot slip through."""

    def __init__(self, take: Callable[[list[str]], None]) -> None:
        self._take = take
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def write(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        if lines:
            self._take(lines)

    def close(self) -> None:
        rest, self._rest = self._rest + self._decoder.decode(b"", True), ""
        if rest:
            self._take([rest])
