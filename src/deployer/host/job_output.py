"""What a job prints, as events between its start and its end: each follower reads its log, from where he was."""

from __future__ import annotations

import json
import time
from typing import Any, Callable, Dict, Optional, Tuple

from deployer.errors import DeployerError
from deployer.host import spawn
from deployer.host.following_file import LOOK_AGAIN, Appended
from deployer.host.journal import events, timestamp
from deployer.host.paths import HostPaths
from deployer.host.state import State
from deployer.wire.redaction import Redactor

LONGEST_LINE = 64 * 1024
"""Bytes after which a line that does not end is told in pieces."""
PIECE = 1 << 20

Event = Dict[str, Any]
Send = Callable[[Dict[str, Any]], None]


class WithOutput:
    """
    Sends the events of one deploy on, with `job.output` in its place among them; *output* is the byte to begin at.

    `fileno` is readable when `more` has something to do; -1 while nothing tells.
    """

    def __init__(self, paths: HostPaths, send: Send, output: int) -> None:
        self._paths = paths
        self._send = send
        self._output = output
        self._started: Optional[Event] = None
        self._appended: Optional[Appended] = None
        self._rest = b""
        self._redact: Callable[[str], str] = str
        self._secrets = Redactor({})

    def catch_up(self, name: str, since: int) -> None:
        """Whoever has seen the job begin, before event number *since*, hears on from where he was."""
        state = State(self._paths.state)
        try:
            for stored in events(state, name):
                event = json.loads(stored["event"])
                if event["seq"] <= since:
                    self._note(event)
        finally:
            state.close()

    def __call__(self, message: Dict[str, Any]) -> None:
        event = message["event"]
        if event.get("event") == "job.finished":
            self.more(to_the_end=True)
        self._send(message)
        self._note(event)

    def fileno(self) -> int:
        return self._appended.fileno() if self._appended is not None else -1

    def pause(self) -> Optional[float]:
        """Seconds until `more` is to be called though nothing tells; None where that is not necessary."""
        return LOOK_AGAIN if self._started is not None and self.fileno() < 0 else None

    def more(self, to_the_end: bool = False) -> None:
        """Send what was printed since."""
        if self._started is None:
            return
        if self._appended is not None:
            self._appended.taken()
        try:
            with open(self._paths.logs / str(self._started["log"]), "rb") as file:
                file.seek(self._output + len(self._rest))
                for data in iter(lambda: file.read(PIECE), b""):
                    self._tell(data)
        except FileNotFoundError:
            pass
        if to_the_end and self._rest:
            self._line(self._rest)
            self._rest = b""

    def close(self) -> None:
        if self._appended is not None:
            self._appended.close()

    def _note(self, event: Event) -> None:
        if event.get("event") == "job.started":
            self._started = event
            self._output = max(self._output, int(event["offset"]))
            self._secrets, self._redact = _redactor(self._paths, event)
            self._appended = Appended(self._paths.logs / str(event["log"]))
            self.more()  # what it printed before we looked
        elif event.get("event") == "job.finished":
            self.close()
            self._started = self._appended = None

    def _tell(self, data: bytes) -> None:
        data = self._rest + data
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            self._line(line, 1)
        while len(self._rest) > LONGEST_LINE + self._secrets.longest:
            piece = self._secrets.whole(self._rest, LONGEST_LINE)  # half a secret would not be recognised as one
            self._line(self._rest[:piece])
            self._rest = self._rest[piece:]

    def _line(self, line: bytes, end: int = 0) -> None:
        assert self._started is not None
        self._output += len(line) + end
        kept = {name: self._started[name] for name in ("v", "deploy", "host", "release") if name in self._started}
        text = self._redact(line.decode("utf-8", "replace").rstrip("\r"))
        told = {"time": timestamp(time.time()), "event": "job.output", "line": text, "at": self._output}
        self._send({"event": {**kept, **told}})


def _redactor(paths: HostPaths, event: Event) -> Tuple[Redactor, Callable[[str], str]]:
    try:
        secrets = Redactor(spawn.read_secrets(paths.secrets_of(str(event.get("release")))))
        return secrets, secrets.text
    except DeployerError:  # damaged: nobody can say what must not be told
        return Redactor({}), lambda text: "(not shown: the secrets of the release cannot be read)"
