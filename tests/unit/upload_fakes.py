"""An upload without a link: the client's words go straight to the host's rooms, through real frames and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from artifacts import opened
from deployer.artifact import Artifact
from deployer.host.inflow import Inflow
from deployer.host.receiving import Receiving
from deployer.host.releases import Releases
from deployer.manifest import Manifest
from deployer.rollout.events import Stream
from deployer.rollout.part import Part
from deployer.rollout.upload import upload
from deployer.wire import frames

Change = Callable[[bytes], bytes]


class Wire:
    """A Session to a Receiving; `cut` ends the link after so many bytes of content, `spoil` changes its frames."""

    host, squeezes = "web-1", True

    def __init__(self, root: Path, cut: int | None = None, spoil: Callable[[bytes], bytes] | None = None) -> None:
        self.receiving = Receiving(root, root / ".deployer" / "store", self._require_space)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.bytes = self.content = 0
        self.space: tuple[int, int] | None = None
        self._cut, self._spoil = cut, spoil

    def call(self, op: str, **params: Any) -> Any:
        self.asked.append((op, params))
        answer = getattr(self.receiving, op)(json.loads(json.dumps(params)))
        self.bytes += len(frames.pack(params, squeeze=True)) + len(frames.pack({"ok": answer}, squeeze=True))
        return json.loads(json.dumps(answer))

    def pour(self, op: str, stream: Iterator[bytes]) -> Any:
        self.asked.append((op, {}))
        return self.receiving.blobs(Inflow(iter([*self._sent(stream), b""]).__next__))

    def _sent(self, stream: Iterator[bytes]) -> Iterator[bytes | None]:
        for frame in stream:
            self.content += len(frame)
            self.bytes += len(frame) + frames.HEADER.size
            if self._cut is not None and self.content > self._cut:
                yield None
                return
            yield self._spoil(frame) if self._spoil else frame

    def ops(self) -> list[str]:
        return [op for op, _ in self.asked]

    def _require_space(self, size: int, entries: int) -> None:
        self.space = size, entries


class Host:
    """The files of one host below *root*, and releases on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def wire(self, **how: Any) -> Wire:
        return Wire(self.root, **how)

    def push(self, artifact: Path, wire: Wire | None = None) -> Wire:
        """Upload and stage a release; asserts that it is the artifact."""
        wire = wire or self.wire()
        with opened(artifact) as content:
            send(wire, content)
            self.stage(wire, content.manifest)
        return wire

    def stage(self, wire: Wire, manifest: Manifest) -> None:
        assert wire.receiving.manifest == manifest
        releases = Releases(self.root)
        name = f"r{len(releases.listing()):03}"
        releases.stage(name, manifest, wire.receiving.store)
        releases.flip(name)

    def incoming(self) -> list[Path]:
        return sorted((self.root / ".deployer" / "store" / "incoming").iterdir())

    def lists(self) -> list[Path]:
        return sorted((self.root / ".deployer" / "store" / "chunks").glob("*"))


def send(wire: Wire, content: Artifact, events: list[dict[str, Any]] | None = None) -> None:
    told: list[dict[str, Any]] = [] if events is None else events
    upload(wire, content, Part("web-1", Stream("d1", told.append)))  # type: ignore[arg-type]
