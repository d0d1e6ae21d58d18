"""Pushes over SSH, word by word, so that each can be timed and its bytes counted."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sshd import Server
from deployer.artifact import open_artifact
from deployer.config.load import load
from deployer.link.address import Address
from deployer.link.dial import Ssh, dial
from deployer.link.remote import RemoteChannel
from deployer.link.session import Session
from deployer.manifest import release_hash
from deployer.rollout.events import Stream
from deployer.rollout.upload import upload

CONFIG = """\
app = "bench"
[build]
artifact = "{artifact}"
[run]
command = ["sleep", "1000000"]
[health]
alive_for = "0s"
[target.there]
hosts = ["{written}"]
path = "{path}"
"""


@dataclass(frozen=True)
class Counted:
    """One push: seconds of the upload alone, and bytes of the frames, both ways, by its parts."""

    seconds: float
    opened: int
    content: int
    whole: int


class Pushes:
    """Pushes *artifact* to *server*, to the host directory *path*. The app runs until `stop`."""

    def __init__(self, server: Server, artifact: Path, path: Path) -> None:
        self.server = server
        self.path, self._artifact = path, artifact
        file = path.parent / f"{path.name}.toml"
        file.write_text(CONFIG.format(artifact=artifact, written=server.written, path=path))
        self._config = load(file, "there")
        self._asked = {"target": self._config.target(server.written), "settings": self._config.settings()}

    def push(self, whole: bool = True) -> Counted:
        """One push; without *whole* only to the end of its upload."""
        stream = Stream(f"d-{secrets.token_hex(4)}", lambda event: None)
        with self._channel() as channel, open_artifact(self._artifact, ()) as opened:
            session = Session(self.server.written, channel)
            session.hello(str(self.path))
            words: dict[str, Any] = {"deploy": stream.deploy, "kind": "push", "who": "bench", **self._asked}
            session.call_telling(lambda event: None, "open", wait_lock=0, supersede=False, detach=False, **words)
            before, began = channel.sent + channel.received, time.monotonic()
            upload(session, opened, stream)
            took, after = time.monotonic() - began, channel.sent + channel.received
            if whole:
                digest = opened.manifest.digest
                release = f"{time.time_ns()}-{release_hash(digest, self._config.settings())}"
                session.call("commit", release=release, manifest=digest, secrets={}, **words)
                for event in session.follow(str(stream.deploy)):
                    if event["event"] == "host.finished" and event["status"] not in ("done", "unchanged"):
                        raise SystemExit(f"bench: the push failed: {event}")
            return Counted(took, before, after - before, channel.sent + channel.received)

    def stop(self) -> None:
        """The app runs no more."""
        with self._channel() as channel:
            session = Session(self.server.written, channel)
            session.hello(str(self.path))
            words: dict[str, Any] = {
                "deploy": f"s-{secrets.token_hex(4)}",
                "kind": "stop",
                "who": "bench",
                **self._asked,
            }
            session.call_telling(lambda event: None, "open", wait_lock=0, supersede=False, detach=False, **words)
            session.call("commit", **words)
            for _ in session.follow(words["deploy"]):
                pass

    @contextmanager
    def _channel(self) -> Iterator[RemoteChannel]:
        channel = dial(Address.parse(self.server.written), str(self.path), Ssh(), None)
        try:
            yield channel
        finally:
            channel.close()
