"""What a registry says of itself: a line for each event, written by a thread of its own."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Mapping
from typing import Any

from deployer.cli.output import Output
from deployer.cli.render.json import encode, stamped
from deployer.cli.render.paint import Paint, colours_wanted
from deployer.cli.render.registry import event_line
from deployer.cli.session import Session

MOST = 100_000
"""Lines that may wait for a reader; more are dropped and counted. A registry never waits for who reads its log."""

TOGETHER = 50
"""Lines in one write."""


class RegistryLog:
    """`say` never blocks. Leaving the context writes what is left, if somebody reads it."""

    def __init__(self, session: Session) -> None:
        self._json, self._verbose = session.options.json, session.options.verbose
        self._quiet = session.options.quiet
        self._out = session.out if self._json else Output(sys.stderr)
        self._paint = Paint(colours_wanted(self._out.is_terminal, session.options.no_color))
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="registry-log", daemon=True)

    def __enter__(self) -> RegistryLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.put(None)
        self._thread.join(1.0)

    @property
    def is_stuck(self) -> bool:
        """Whether nobody reads what was written, so that to flush it would wait for ever."""
        return self._thread.is_alive()

    def say(self, name: str, facts: Mapping[str, Any]) -> None:
        if (name == "node.busy" and not self._verbose) or (
            self._quiet and not self._json and name != "registry.trouble"
        ):
            return
        if self._lines.qsize() >= MOST:
            self._dropped += 1
            return
        self._lines.put(stamped(name, _flat(facts) if name.startswith("node.") else facts))

    def _write(self) -> None:
        while (event := self._lines.get()) is not None:
            lines = [self._line(event)]
            # Together, when many are waiting; not too many, for formatting them keeps the registry's own thread waiting.
            while len(lines) < TOGETHER and not self._lines.empty():
                event = self._lines.get()
                if event is None:
                    self._lines.put(None)
                    break
                lines.append(self._line(event))
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                lines.append(self._line(stamped("registry.log_dropped", {"lines": dropped})))
            self._out.line("\n".join(lines))

    def _line(self, event: dict[str, Any]) -> str:
        return encode(event) if self._json else event_line(event, self._paint)


def _flat(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node as an event of the log tells it: what it is called, and what may have changed."""
    told = ("status", "reason", "pools", "release", "busy", "capacity", "address", "instance", "drain")
    return {"node": node["id"], **{key: node[key] for key in told}}
