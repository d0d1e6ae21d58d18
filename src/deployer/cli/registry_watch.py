"""`registry nodes` on a terminal: a table that moves with the events of the registry."""

from __future__ import annotations

import shutil
import time
from typing import Any

from deployer.cli.output import Output
from deployer.cli.render.paint import Paint
from deployer.cli.render.registry import nodes_lines
from deployer.cli.render.screen import Screen
from deployer.errors import LinkError
from deployer.registry.asking import Asking

PAUSE = 1.0
"""Seconds between two looks for a registry that has gone."""


class Watch:
    """Follows the registry until Ctrl-C, over its restarts too. The first look must succeed: LinkError otherwise."""

    def __init__(self, out: Output, paint: Paint, asking: Asking) -> None:
        self._asking = asking
        self._paint = paint
        self._nodes: dict[str, dict[str, Any]] = {}
        self._gone: str | None = None
        self._screen = Screen(out, self._rows)

    def run(self) -> None:
        self._follow()
        while True:
            time.sleep(PAUSE)
            try:
                self._follow()
            except LinkError as error:
                self._gone = error.cause

    def close(self) -> None:
        self._screen.close()

    def _follow(self) -> None:
        for name, data in self._asking.events():
            self._gone = None
            # A new dict each time: rich draws from a thread of its own.
            if name == "snapshot":
                self._nodes = {node["id"]: node for node in data["nodes"]}
                self._screen.open()
            elif name.startswith("node."):
                self._nodes = {**self._nodes, data["id"]: data}
        self._gone = "the registry has closed the stream"

    def _rows(self, width: int) -> list[str]:
        height = shutil.get_terminal_size().lines - 2
        lines = nodes_lines(list(self._nodes.values()), self._paint, most=max(1, height - 4))
        if self._gone:
            lines += [self._paint(f"no answer: {self._gone}; as of before, looking again", "warn")]
        return lines
