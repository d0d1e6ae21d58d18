"""The carrier of a rollout on Ray: links are made by shards, and made anew by others when one is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deployer.artifact import Artifact
from deployer.config.model import Config
from deployer.errors import LinkError
from deployer.jobs.cluster import connect, quietly
from deployer.rollout.carrier import Stranded, Talk
from deployer.rollout.each import AT_ONCE
from deployer.rollout.engine.pieces import Shelf
from deployer.rollout.engine.pulse import Pulse
from deployer.rollout.engine.shards import Shards, unreachable
from deployer.rollout.engine.talk import CarriedTalk
from deployer.rollout.hosts import call
from deployer.rollout.part import Part

DEFAULT = "auto"
TRIES = 5
"""Shards that may be lost while one host is called, before it counts as unreachable."""


class OnCluster:
    """A Carrier. What is decided stays in this process; what costs, handshakes and uploads, happens in the shards."""

    def __init__(self, ray: Any, shards: Shards) -> None:
        self._ray = ray
        self._shards = shards
        self._lock = threading.Lock()
        self._shelf: tuple[Artifact, Shelf] | None = None

    @property
    def at_once(self) -> int:
        return AT_ONCE * len(self._shards)

    def connect(self, config: Config, host: str) -> Talk:
        words = {"call": call(config, host), "path": config.target(host)["path"]}
        for _ in range(TRIES - 1):
            try:
                return self._dialled(host, words)
            except Stranded:
                pass  # nobody has refused us: the next shard
        return self._dialled(host, words)

    def upload(self, talk: Any, opened: Artifact, part: Part) -> None:
        talk.upload(self._shelf_of(opened), len(opened.manifest.blobs), part.event)

    def _dialled(self, host: str, words: dict[str, Any]) -> CarriedTalk:
        talk = CarriedTalk(host, self._shards)
        try:
            talk.dial(**words)
        except BaseException:
            talk.__exit__()
            raise
        return talk

    def _shelf_of(self, opened: Artifact) -> Shelf:
        with self._lock:
            if self._shelf is None or self._shelf[0] is not opened:
                self._shelf = opened, Shelf(opened, self._ray.put)
            return self._shelf[1]


@contextmanager
def carried(address: str | None, hosts: int) -> Iterator[OnCluster]:
    """
    A carrier for so many *hosts* on the cluster at *address* (None: $RAY_ADDRESS, or the one of this machine). Its actors end
    with the block, and with this process.

    LinkError when no cluster answers, PreflightError when its nodes cannot take part.
    """
    with _connected(address) as ray:
        shards = Shards(ray, hosts)
        pulse = Pulse(shards.living)
        try:
            yield OnCluster(ray, shards)
        finally:
            pulse.stop()
            shards.end()


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    with _signals_as_they_were():
        try:
            connection = connect(address or DEFAULT, quiet=True)
        except LinkError as error:
            raise unreachable(error) from error
    with quietly(), connection:
        yield connection.ray


@contextmanager
def _signals_as_they_were() -> Iterator[None]:
    """Ray takes SIGTERM for itself; to us it is a Ctrl-C from CI."""
    main = threading.current_thread() is threading.main_thread()
    asked = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, asked)
