"""Where the words go: a stream whose reader may leave (`| head`) without breaking whoever writes."""

from __future__ import annotations

import os
from typing import TextIO

# For a terminal or a file that cannot hold our typography.
_PLAIN = str.maketrans({"·": "-", "█": "#", "░": ".", "…": "~", "│": "|", "→": ">"})


class Output:
    """
    Lines to *stream*, flushed one by one.

    Never raises for a reader that has left: the rest goes nowhere, `closed` says so, and a push goes on.
    `failure` keeps any other reason, such as a full disk.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.closed = stream is None
        self.failure: OSError | None = None
        self._utf8 = "utf" in (getattr(stream, "encoding", None) or "utf-8").lower()
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")

    @property
    def is_terminal(self) -> bool:
        """Whether a person's terminal, able to redraw lines, is at the other end."""
        return self.stream is not None and not self.closed and self.stream.isatty() and os.environ.get("TERM") != "dumb"

    def line(self, text: str) -> None:
        self.write((text if self._utf8 else text.translate(_PLAIN)) + "\n")

    def write(self, text: str) -> None:
        if self.stream is None or self.closed:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError as error:
            self._give_up(error)

    def write_bytes(self, data: bytes) -> None:
        """*data* as it is: for output that belongs to the app."""
        raw = getattr(self.stream, "buffer", None)
        if raw is None or self.closed:
            self.write(data.decode("utf-8", "replace"))
            return
        try:
            raw.write(data)
            raw.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.closed = True
        self.failure = None if isinstance(error, BrokenPipeError) else error
        # What is still buffered would fail once more when Python exits, and print a traceback.
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)
        except (OSError, ValueError):
            pass
