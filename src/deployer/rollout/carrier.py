"""Who carries the links to the hosts: threads of this process (Here), or a Ray cluster (engine/)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from deployer.artifact import Artifact
from deployer.config.model import Config
from deployer.errors import LinkError
from deployer.rollout.each import AT_ONCE
from deployer.rollout.hosts import connect
from deployer.rollout.part import Part
from deployer.rollout.upload import upload


class Stranded(LinkError):
    """Not the link broke, but who carried it was lost: the host may be reached by another one at once."""


class Talk(Protocol):
    """What `deployer.link.session.Session` can do, wherever the link itself is."""

    @property
    def host(self) -> str: ...
    def __exit__(self, *error: object) -> None: ...
    def call(self, op: str, **params: Any) -> Any: ...
    def call_telling(self, tell: Callable[[dict[str, Any]], None], op: str, **params: Any) -> Any: ...
    def follow(self, deploy: str, since: int = 0, output: int = 0) -> Iterator[dict[str, Any]]: ...
    def listen(self) -> None: ...
    def leave(self) -> None: ...


class Carrier(Protocol):
    """`at_once`: the hosts that are called side by side; who only listens may be more."""

    @property
    def at_once(self) -> int: ...

    def connect(self, config: Config, host: str) -> Talk:
        """A conversation with *host*. Raises LinkError or PreflightError."""

    def upload(self, talk: Any, opened: Artifact, part: Part) -> None:
        """All of *opened* is on the host of *talk*, which this carrier has made."""


class Here:
    """Every link is one of this process."""

    at_once = AT_ONCE

    def connect(self, config: Config, host: str) -> Talk:
        return connect(config, host)

    def upload(self, talk: Any, opened: Artifact, part: Part) -> None:
        upload(talk, opened, part)
