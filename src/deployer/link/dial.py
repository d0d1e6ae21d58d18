"""From a host's name to a channel to its engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deployer.link.address import Address
from deployer.link.pipe import Pipe
from deployer.link.refusals import Dropped
from deployer.link.remote import RemoteChannel


@dataclass(frozen=True)
class Ssh:
    """
    `[target.X.ssh]`: which client, which host keys it takes, which ssh config it reads (None: the user's own); seconds.

    `connect_timeout` is None where the ssh config, or else DEFAULT_TIMEOUT, decides. `reconnect_within` is for whoever
    follows a deploy.
    """

    DEFAULT_TIMEOUT: ClassVar[float] = 10.0

    client: str = "paramiko"
    host_keys: str = "strict"
    config: Path | None = None
    connect_timeout: float | None = None
    heartbeat: float = 2.0
    silent_after: float = 15.0
    reconnect_within: float = 600.0


def dial(address: Address, path: str, ssh: Ssh, become: str | None) -> RemoteChannel:
    """A channel to the engine for the app at *path* on the host at *address*. Raises LinkError or PreflightError."""

    def attempt() -> RemoteChannel:
        pulse = (ssh.heartbeat, ssh.silent_after)
        return RemoteChannel(_pipe(address, ssh, become), address.written, path, pulse, become)

    try:
        return attempt()
    except Dropped:
        from deployer import retry  # most need no second attempt

        return retry.handshake(attempt, Dropped)


def _pipe(address: Address, ssh: Ssh, become: str | None) -> Pipe:
    if ssh.client == "openssh":
        from deployer.link.openssh import OpensshPipe

        return OpensshPipe.open(address, ssh, become)
    from deployer.link.ssh.pipe import ParamikoPipe

    return ParamikoPipe.open(address, ssh, become)
