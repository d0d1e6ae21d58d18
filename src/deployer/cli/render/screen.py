"""The part of a terminal that is drawn anew, below the lines that are final. The only user of rich."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deployer.cli.output import Output

if TYPE_CHECKING:
    from rich.live import Live


class Screen:
    """Draws what *rows* gives for a width, four times a second while it is open; rich is imported when it opens first."""

    def __init__(self, out: Output, rows: Callable[[int], list[str]]) -> None:
        self._out = out
        self._rows = rows
        self._live: Live | None = None

    def open(self) -> None:
        if self._live is not None:
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        # We know already that it is a terminal, and whether it wants colours.
        console = Console(file=self._out.stream, force_terminal=True, highlight=False)

        def draw() -> Text:
            return Text.from_ansi("\n".join(self._rows(console.width)), no_wrap=True, overflow="crop")

        self._live = Live(console=console, get_renderable=draw, refresh_per_second=4, transient=True)
        self._live.start()

    def line(self, words: str) -> None:
        """A final line, above what is still moving."""
        if self._live is None:
            self._out.line(words)
            return
        from rich.text import Text

        self._live.console.print(Text.from_ansi(words), soft_wrap=True)

    def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()
