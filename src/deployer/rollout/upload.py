"""What a host lacks of a release, sent to it."""

from __future__ import annotations

import time

from deployer.artifact import Artifact
from deployer.link.session import Session
from deployer.manifest import key
from deployer.rollout.part import Part


def upload(session: Session, opened: Artifact, part: Part) -> None:
    """Send what the host does not have yet, each content once."""
    manifest = opened.manifest
    missing = set(session.call("have", manifest=manifest.to_json())["missing"])
    entries = {key(entry): entry for entry in manifest.files if key(entry) in missing}
    started, sent = time.monotonic(), 0
    for name, entry in entries.items():
        with opened.open(entry) as file:
            sent += session.upload(name, entry.size, file)
    if sent > 0:
        part.event("upload.finished", bytes_sent=sent, took_s=round(time.monotonic() - started, 3))
