"""In which phase of a deploy we are, by its events: what the witness' figures are split by."""

from __future__ import annotations

from typing import Any

PREPARE, DRAIN, START, SERVE, REVERT, BAKE = "prepare", "drain", "start", "serve", "revert", "bake"
_ONE_HOST = {"drain.started": DRAIN, "start.finished": START, "switched": SERVE, "revert.finished": SERVE}


class Phases:
    """
    One host: prepare, drain, start (until it has proven itself), serve, revert; an overlap starts, serves, then drains.
    Several: prepare, canary, batch N, bake, revert; their hosts are in different phases at one time.
    """

    def __init__(self) -> None:
        self.now = PREPARE
        self.order = [PREPARE]
        self._many = self._switched = False

    def note(self, event: dict[str, Any]) -> None:
        """What *event* begins, if it begins a phase."""
        name = event.get("event")
        self._many = self._many or name == "rollout.started"
        phase = self._of_many(event) if self._many else self._of_one(event)
        if phase is not None:
            self.now = phase
            if phase not in self.order:
                self.order.append(phase)

    def _of_one(self, event: dict[str, Any]) -> str | None:
        name = str(event.get("event"))
        if name == "drain.finished" and self.now != REVERT:
            return SERVE if self._switched else START
        if name == "revert.started":
            return REVERT
        if self.now == REVERT and name != "revert.finished":
            return None
        self._switched = self._switched or name == "switched"
        return _ONE_HOST.get(name)

    def _of_many(self, event: dict[str, Any]) -> str | None:
        name = event.get("event")
        if name == "batch.started":
            return "canary" if event.get("what") == "canary" else f"batch {event.get('batch')}"
        if name == "bake.started":
            return BAKE
        return REVERT if name == "rollout.stopped" and event.get("on_failure") == "revert" else None
