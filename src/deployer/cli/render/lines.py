"""The columns of the human view: host, step, status, time, detail."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployer.cli.render.paint import Paint
from deployer.cli.render.text import clean, one_line

_STYLES = {
    "ok": "good",
    "done": "good",
    "lost": "warn",
    "KILLED": "bad",
    "FAILED": "bad",
    "exited": "warn",
    "!!": "bad",
    "??": "warn",
}
_HEADS = {"done": "good", "fail": "bad", "down": "bad", "stop": "bad"}


@dataclass(frozen=True)
class Line:
    """One step of one host, and what is told below it (such as the end of a log)."""

    host: str
    step: str
    status: str = ""
    took: str = ""
    detail: str = ""
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Puts lines into columns that fit *hosts*."""

    hosts: tuple[str, ...] = ()
    paint: Paint = field(default_factory=Paint)

    @property
    def width(self) -> int:
        return max(5, *(len(one_line(host, 40)) for host in self.hosts), 0)

    @property
    def indent(self) -> str:
        return " " * (self.width + 2)

    def text(self, line: Line) -> str:
        """*line* as text, with the lines below it."""
        status = self.paint(f"{line.status:<6}", _STYLES.get(line.status, ""))
        host = f"{one_line(line.host, 40):<{self.width}}"
        head = f"{host}  {line.step:<7} {status} {line.took:<7} {one_line(line.detail, 400)}".rstrip()
        return "\n".join([head, *map(self.quoted, line.below)])

    def quoted(self, words: str) -> str:
        """A line of somebody else's output, as it was indented there."""
        return f"{self.indent}│ {clean(words).rstrip()[:400]}".rstrip()

    def headed(self, head: str, text: str) -> str:
        """A line about the whole: "done   local on … in 4m40s"."""
        return f"{self.paint(f'{head:<{self.width}}', _HEADS.get(head, 'dim'))}  {one_line(text, 400)}"
