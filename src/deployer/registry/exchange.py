"""A request and its answer, as the door reads the one and writes the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import h11


@dataclass(frozen=True)
class Request:
    """A whole request. `path` is in its parts, decoded."""

    method: str
    path: tuple[str, ...]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def is_websocket(self) -> bool:
        return self.headers.get("upgrade", "").lower() == "websocket"


@dataclass(frozen=True)
class Answer:
    """A response; `document` is sent as JSON, unless there is `text`."""

    status: int = 200
    document: Any = None
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterator[bytes] | None = None  # instead of a document: sent one by one, others are served in between
    reading: bool = False  # what follows is the stream of events

    def content(self) -> bytes:
        text = json.dumps(self.document, separators=(",", ":")) if self.text is None else self.text
        return text.encode()


def request_of(head: h11.Request, body: bytes) -> Request:
    """What h11 has read."""
    target = head.target.decode("ascii", "replace").partition("?")[0]
    path = tuple(unquote(part) for part in target.strip("/").split("/") if part)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode("ascii", "replace"), path, headers, body)
