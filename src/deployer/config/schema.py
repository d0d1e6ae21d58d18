"""
The tables of `deploy.toml`, as the file spells them: keys, defaults, and what each value must be.

Every key stands alone here: what concerns two keys is in `relations.py`, since a target may override either.
Durations have become float seconds, string commands `["sh", "-c", command]`.
"""

# No `from __future__ import annotations`: pydantic reads these annotations, and reads strings slowly.

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from deployer.config import actors, addresses, commands, names, scalars

Duration = Annotated[float, BeforeValidator(scalars.duration)]
DurationOrZero = Annotated[float, BeforeValidator(scalars.duration_or_zero)]
Count = Annotated[int, BeforeValidator(scalars.count(1))]
Flag = Annotated[bool, BeforeValidator(scalars.flag)]
Command = Annotated[list[str], BeforeValidator(commands.command)]
Env = dict[Annotated[str, BeforeValidator(names.env_name)], Annotated[str, BeforeValidator(names.env_value)]]
Raw = dict[str, Any]


class Table(BaseModel):
    """A table that no unknown key can enter."""

    # defer_build: a table that a config does not use costs nothing to load.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Build(Table):
    command: Command | None = None
    artifact: Annotated[str, BeforeValidator(names.local_path)] | None = None
    exclude: list[Annotated[str, BeforeValidator(names.pattern)]] = []
    timeout: Duration = 900.0


class Install(Table):
    command: Command | None = None
    timeout: Duration = 900.0


class Check(Table):
    command: Command | None = None
    timeout: Duration = 60.0


class Run(Table):
    command: Command | None = None
    env: Env = {}
    env_file: Annotated[str, BeforeValidator(names.inside)] | None = None
    secrets: Annotated[list[Annotated[str, BeforeValidator(names.secret_name)]], AfterValidator(names.distinct)] = []
    linked: Annotated[list[Annotated[str, BeforeValidator(names.inside)]], AfterValidator(names.not_nested)] = []
    socket: Annotated[Any, BeforeValidator(addresses.sockets)] = None
    ports: Annotated[
        list[Annotated[int, BeforeValidator(addresses.port)]], AfterValidator(addresses.distinct_ports)
    ] = []
    rehearse: Flag | None = None
    max_draining: Count = 3
    systemd: Annotated[dict[str, Any], BeforeValidator(names.unit_settings)] = {}


class Health(Table):
    url: Annotated[str, BeforeValidator(addresses.health_url)] | None = None
    interval: Duration = 0.2
    timeout: Duration = 2.0
    ready_within: Duration = 60.0
    streak: Count = 2
    busy: Annotated[str, BeforeValidator(names.json_pointer)] | None = None
    private: Flag = False
    alive_for: DurationOrZero = 2.0


class Drain(Table):
    signal: Annotated[str, BeforeValidator(commands.signal_name)] = "SIGTERM"
    signal_to: Annotated[str, BeforeValidator(scalars.choice("main", "tree"))] = "main"
    ceiling: Duration = 660.0
    longest_task: Duration | None = None
    app_grace: Duration | None = None
    quiet: Annotated[str | list[str], BeforeValidator(commands.quiet)] | None = None
    wait_idle: DurationOrZero | None = None
    last_call: Annotated[str | list[str], BeforeValidator(commands.last_call)] | None = None
    last_call_before: Duration = 30.0
    revert_ceiling: Duration = 30.0


class Adopt(Table):
    pidfile: Annotated[str, BeforeValidator(names.pidfile)] | None = None
    port: Annotated[int, BeforeValidator(addresses.port)] | None = None
    match: Annotated[str, BeforeValidator(commands.process_pattern)] | None = None
    unit: Annotated[str, BeforeValidator(names.unit)] | None = None


class Job(Table):
    command: Command | None = None
    env: Env = {}
    timeout: Duration | None = None
    stop_within: Duration = 30.0


class Service(Table):
    command: Command | None = None
    class_: Annotated[str, BeforeValidator(names.python_class)] | None = Field(default=None, alias="class")
    env: Env = {}
    cleanup_timeout: Duration = 5.0
    ray: Annotated[dict[str, Any] | None, BeforeValidator(actors.placement)] = None
    cleanup: Annotated[str, BeforeValidator(scalars.choice("always", "on_success", "never"))] = "always"
    files: list[Annotated[str, BeforeValidator(names.pattern)]] | None = None
    health: Raw | None = None
    drain: Raw | None = None


class Overridable(Table):
    """The tables that stand at the top, and again inside a target that has its own mind."""

    build: Raw | None = None
    install: Raw | None = None
    check: Raw | None = None
    run: Raw | None = None
    health: Raw | None = None
    drain: Raw | None = None
    adopt: Raw | None = None
    services: Raw | None = None
    job: Raw | None = None


class Top(Overridable):
    app: Annotated[str, BeforeValidator(names.app)]
    strategy: Annotated[str, BeforeValidator(scalars.choice("restart", "overlap"))] = "restart"
    default_target: str | None = None
    target: Raw | None = None


class Target(Overridable):
    hosts: Annotated[
        list[Annotated[str, BeforeValidator(addresses.ssh_host)]], AfterValidator(names.distinct_hosts)
    ] = []
    path: Annotated[str, BeforeValidator(names.host_path)] | None = None
    supervisor: Annotated[
        str, BeforeValidator(scalars.choice("builtin", "systemd", "systemd-user", "launchd", "command"))
    ] = "builtin"
    become: Annotated[str, BeforeValidator(scalars.choice("sudo"))] | None = None
    keep: Count = 5
    ray: Annotated[str, BeforeValidator(actors.address)] | None = None
    ssh: Raw | None = None
    rollout: Raw | None = None
    pool: Raw | None = None
    verify: Raw | None = None
    commands: Raw | None = None


FLEET_TABLES = ("ssh", "rollout", "pool", "verify", "commands")  # their keys are in fleet.py
TABLES: dict[str, type[Table]] = {
    "build": Build,
    "install": Install,
    "check": Check,
    "run": Run,
    "health": Health,
    "drain": Drain,
    "adopt": Adopt,
    "job": Job,
}
