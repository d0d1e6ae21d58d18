"""The app's own output on its way to a file, a terminal or a program."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Protocol

from deployer.cli.output import Output
from deployer.cli.render.json import encode, stamped
from deployer.cli.render.text import clean
from deployer.cli.session import Session


class LogWriter(Protocol):
    def write(self, data: bytes) -> None:
        """Take some bytes; raises BrokenPipeError when nobody reads any more."""

    def close(self) -> None:
        """Write what was held back."""


def log_writer(session: Session, follow: bool) -> LogWriter:
    """
    Who writes the log: byte for byte into a file or pipe, without escape sequences on a terminal.

    Under `--json` it is one object with all `lines`, or while following one object for each piece.
    """
    if session.options.json:
        return JsonLog(session.out, follow)
    return CleanLog(session.out) if session.out.is_terminal else RawLog(session.out)


class RawLog:
    def __init__(self, out: Output) -> None:
        self._out = out

    def write(self, data: bytes) -> None:
        self._out.write_bytes(data)
        _still_read(self._out)

    def close(self) -> None:
        """Nothing is held back."""


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


class CleanLog(_Lines):
    def __init__(self, out: Output) -> None:
        super().__init__(self._show)
        self._out = out

    def _show(self, lines: list[str]) -> None:
        for line in lines:
            self._out.line(clean(line))
        _still_read(self._out)


class JsonLog(_Lines):
    def __init__(self, out: Output, follow: bool) -> None:
        self._all: list[str] = []
        self._out = out
        self._follow = follow
        super().__init__(self._emit if follow else self._all.extend)

    def close(self) -> None:
        super().close()
        if not self._follow:
            self._emit(self._all)

    def _emit(self, lines: list[str]) -> None:
        self._out.line(encode(stamped("logs", {"lines": lines})))
        _still_read(self._out)


def _still_read(out: Output) -> None:
    if out.closed:
        raise BrokenPipeError
