"""Machine output: one JSON object a line, ASCII only, flushed at once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from deployer.cli.output import Output


class JsonView:
    """Writes every event as it is. `build.output` only when asked to be *verbose*."""

    def __init__(self, out: Output, verbose: bool = False) -> None:
        self._out = out
        self._verbose = verbose

    def event(self, event: Mapping[str, Any]) -> None:
        if self._verbose or event.get("event") != "build.output":
            self._out.line(encode(event))

    def close(self) -> None:
        """Nothing is open."""


def stamped(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """*data* as an event of its own, named *name*, happening now."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"v": 1, "time": now, "event": name, **data}


def encode(data: Mapping[str, Any] | list[Any]) -> str:
    """*data* in one line of strict JSON; what JSON cannot say (NaN, paths, bytes) becomes null or text."""
    try:
        return json.dumps(data, allow_nan=False, default=_text)
    except ValueError:
        return json.dumps(_finite(data), default=_text)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
