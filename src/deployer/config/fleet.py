"""The tables of a target: how to reach its hosts, in which order, who sends them traffic, who watches, whose commands start it."""

from typing import Annotated

from pydantic import BeforeValidator

from deployer.config import addresses, names, pools, scalars
from deployer.config.schema import Command, Duration, DurationOrZero, Flag, Table

CountOrZero = Annotated[int, BeforeValidator(scalars.count(0))]


class Ssh(Table):
    client: Annotated[str, BeforeValidator(scalars.choice("paramiko", "openssh"))] = "paramiko"
    host_keys: Annotated[
        str, BeforeValidator(scalars.choice("strict", "accept-new", refused="; host keys are always checked"))
    ] = "strict"
    config: Annotated[str, BeforeValidator(names.local_path)] | None = None
    connect_timeout: Duration | None = None
    heartbeat: Duration = 2.0
    silent_after: Duration = 15.0
    reconnect_within: DurationOrZero = 600.0


class Rollout(Table):
    canary: CountOrZero = 1
    batch: Annotated[int | str, BeforeValidator(scalars.batch)] = "25%"
    bake: DurationOrZero = 30.0
    max_failed: CountOrZero = 0
    max_unreachable: CountOrZero = 0
    on_failure: Annotated[str, BeforeValidator(scalars.choice("revert", "hold"))] = "revert"
    engine: Annotated[str, BeforeValidator(scalars.choice("threads", "ray"))] = "threads"
    ray_address: Annotated[str, BeforeValidator(addresses.ray)] | None = None


class Pool(Table):
    """Which key belongs to which kind is in `pools.py`."""

    kind: Annotated[str, BeforeValidator(scalars.choice(*pools.KEYS))]
    address: Annotated[str, BeforeValidator(pools.address)] = "127.0.0.1:{port}"
    timeout: Duration = 10.0
    drain_within: DurationOrZero = 30.0
    file: Annotated[str, BeforeValidator(pools.path)] | None = None
    upstream: Annotated[str, BeforeValidator(pools.name)] | None = None
    command: Annotated[list[str], BeforeValidator(pools.command)] | None = None
    pidfile: Annotated[str, BeforeValidator(names.pidfile)] | None = None
    socket: Annotated[str, BeforeValidator(pools.socket)] | None = None
    backend: Annotated[str, BeforeValidator(pools.name)] | None = None
    servers: (
        dict[Annotated[str, BeforeValidator(addresses.socket)], Annotated[str, BeforeValidator(pools.name)]] | None
    ) = None
    leave: Annotated[str, BeforeValidator(scalars.choice("drain", "maint"))] | None = None
    state_file: Annotated[str, BeforeValidator(pools.path)] | None = None
    admin: Annotated[str, BeforeValidator(pools.admin)] | None = None
    id: Annotated[str, BeforeValidator(pools.name)] | None = None
    directory: Annotated[str, BeforeValidator(pools.path)] | None = None
    origin: Annotated[str, BeforeValidator(pools.origin)] | None = None
    counts: Flag | None = None
    url: Annotated[str, BeforeValidator(pools.registry)] | None = None
    node: Annotated[str, BeforeValidator(pools.node)] | None = None
    token_file: Annotated[str, BeforeValidator(pools.path)] | None = None


class Verify(Table):
    url: Annotated[str, BeforeValidator(addresses.url)]
    rate: Annotated[int, BeforeValidator(scalars.count(1, 50))] = 10
    timeout: Duration = 5.0


class Commands(Table):
    """Which must be there, and what they cannot do, is in `commanded.py`."""

    start: Command
    stop: Command
    status: Command
    pidfile: Annotated[str, BeforeValidator(names.pidfile)] | None = None
    pid: Command | None = None
    timeout: Duration = 60.0


FLEET: dict[str, type[Table]] = {"ssh": Ssh, "rollout": Rollout, "pool": Pool, "verify": Verify, "commands": Commands}
