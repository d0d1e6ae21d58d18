"""What a command asks of every host it is for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from deployer.config.model import Config
from deployer.rollout.batches import Policy
from deployer.rollout.carrier import Carrier, Here
from deployer.rollout.hosts import look, ssh, who


@dataclass(frozen=True)
class PushOptions:
    """What the command line says about one push. `wait_lock` in seconds; `supersede` sends away who waits
    already; `engine` instead of that of the config."""

    artifact: Path | None = None
    release: str | None = None
    build: bool = True
    detach: bool = False
    wait_lock: float = 0.0
    supersede: bool = False
    hosts: tuple[str, ...] = ()
    engine: str | None = None


def policy(config: Config) -> Policy:
    """`[target.X.rollout]`, or its defaults."""
    table = config.target_table["rollout"] or {}
    return Policy(**{field.name: table[field.name] for field in fields(Policy) if field.name in table})


@dataclass(frozen=True)
class Order:
    """
    A deploy of *kind*, for each host: `release` is what to roll back to (None: the host chooses), `secrets` the values.

    `given_up` is set when a person stops the client: whoever waits for a link that does not come back stops waiting.
    """

    config: Config
    kind: str
    options: PushOptions
    secrets: dict[str, str] = field(default_factory=dict)
    release: str | None = None
    given_up: threading.Event = field(default_factory=threading.Event)
    carrier: Carrier = field(default_factory=Here)

    def asked(self, host: str) -> dict[str, Any]:
        """The parameters that every request about this deploy carries."""
        return {"kind": self.kind, "who": who(), **look(self.config, host)}

    @property
    def reconnect_within(self) -> float:
        """Seconds that a link which broke may stay away. The engine of this machine is there, or it is not."""
        return ssh(self.config).reconnect_within if self.config.hosts else 3.0
