"""The content of a release, brought to one host: what it lacks, and nothing else."""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deployer.artifact import Artifact
from deployer.cuts import possible
from deployer.errors import LinkError
from deployer.link.session import Session
from deployer.manifest import Manifest
from deployer.rollout.parcel import Item, Offer, Parcel, item
from deployer.rollout.part import Part
from deployer.rollout.squeeze import Squeeze
from deployer.wire.chunks import FROM
from deployer.wire.spans import spans, spread

QUIET, EVERY = 0.5, 0.5
"""Seconds: a shorter upload shows no progress, a longer one so often."""


def upload(session: Session, opened: Artifact, part: Part) -> None:
    """
    Send what the host does not have yet, each content once.

    Raises PreflightError, before anything is sent, when it has no room; GateError when a file changes meanwhile.
    """
    answer = agree(session, opened.manifest)
    if answer["missing"]:
        deliver(session, opened, answer, part.event)


def deliver(session: Session, opened: Artifact, answer: dict[str, Any], tell: Callable[..., None]) -> None:
    """Send what *answer*, from `agree`, says is missing."""
    missing = spread(answer["missing"], len(opened.manifest.blobs))
    offers = {offer["index"]: _offer(session, offer) for offer in answer["offers"]}
    sending = Sending(session, opened, tell)
    again = sending.send([item(index, opened, offers.get(index)) for index in missing])
    if again:  # what was here was not what we both took it for: whole, then
        sending.send([Item(index, opened.manifest.blobs[index]) for index in again])
    sending.finish()


def agree(session: Session, manifest: Manifest) -> dict[str, Any]:
    """Make the manifest known to the host, with as little of it as it takes; what it says is missing."""
    marks = b64encode(b"".join(manifest.marks)).decode()
    cut = any(entry.size >= FROM for entry in manifest.files) and possible()
    answer = session.call("have", digest=manifest.digest, marks=marks, chunks=cut)
    for _ in range(2):
        if "lacking" not in answer:
            break
        lacking = spread(answer["lacking"], len(manifest.buckets))
        entries = Manifest(entry for index in lacking for entry in manifest.buckets[index]).to_json()
        answer = session.call("entries", entries=entries, all=bool(answer.get("all")))
    if "missing" not in answer:
        raise LinkError(f"{session.host} and this client do not agree on the manifest")
    return dict(answer)


class Sending:
    """The upload to one host: counts, and tells at most twice a second how far it is."""

    def __init__(self, session: Session, opened: Artifact, tell: Callable[..., None]) -> None:
        self._session = session
        self._opened = opened
        self._tell = tell
        self._squeeze = Squeeze(session.squeezes)
        self._started = time.monotonic()
        self._told = self._started + QUIET - EVERY
        self._sent = self._before = self._total = 0

    def send(self, items: Sequence[Item]) -> list[int]:
        """All *items* in one stream; the numbers of those that the host could not make of what it had."""
        parcel = Parcel(self._opened, items)
        self._total += sum(one.size for one in items)
        answer = self._session.pour("blobs", self._frames(parcel))
        self._before += parcel.content
        return spread(answer["again"], len(self._opened.manifest.blobs))

    def finish(self) -> None:
        """Tell what went over the link."""
        took = time.monotonic() - self._started
        self._tell("upload.finished", bytes_sent=self._sent, took_s=round(took, 3))

    def _frames(self, parcel: Parcel) -> Iterator[bytes]:
        for payload in parcel.payloads():
            body = self._squeeze.body(payload)
            began = time.monotonic()
            yield body
            self._squeeze.sent(len(body), time.monotonic() - began)
            self._sent += len(body)
            self._progress(self._before + parcel.content)

    def _progress(self, content: int) -> None:
        now = time.monotonic()
        if now - self._told < EVERY:
            return
        self._told = now
        rate = content / (now - self._started)
        self._tell("upload.progress", bytes_sent=content, bytes_total=self._total, rate_bps=round(rate))


def _offer(session: Session, told: dict[str, Any]) -> Offer:
    def ask(groups: list[int]) -> bytes:
        return b64decode(session.call("chunks", index=told["index"], groups=spans(groups)))

    return Offer(int(told["start"]), b64decode(told["base"]), ask)
