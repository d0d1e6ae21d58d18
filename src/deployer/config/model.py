"""What the rest of deployer sees of a `deploy.toml`: facts for one target, no file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deployer.config import ladder
from deployer.config.ladder import Rung
from deployer.config.schema import Adopt, Drain, Health
from deployer.config.tables import ServiceTables, Tables, set_rungs
from deployer.errors import UsageError


@dataclass(frozen=True)
class Build:
    """How the artifact is made here; `timeout` in seconds."""

    command: tuple[str, ...] | None
    artifact: str | None
    exclude: tuple[str, ...]
    timeout: float


@dataclass(frozen=True)
class Config:
    """
    One `deploy.toml` as it holds for one target.

    `file` and `directory` are absolute. `hosts` is empty for this machine. `target_table` holds what a target with
    hosts adds: `ssh`, `rollout`, `pool`, `verify`, `commands` (None where absent) and `become`, validated, defaults filled in.
    `ray` is the address of the cluster that the target is, None for a target of hosts.
    """

    app: str
    file: Path
    directory: Path
    strategy: str
    target_name: str
    hosts: tuple[str, ...]
    path: str
    keep: int
    supervisor: str
    build: Build
    tables: Tables
    target_table: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    ray: str | None = None
    batch: Mapping[str, Any] | None = None  # where this is the config of a run: what its target carries besides

    def settings(self) -> dict[str, Any]:
        """What a release carries besides its content, as docs/architecture.md draws it: plain JSON, seconds."""
        tables = self.tables
        run = tables.run.model_dump()
        run["command"] = run["command"] or []
        # An app that opens its sockets only when told is proven before anybody can reach it.
        if not run["systemd"]:
            del run["systemd"]  # a release that needs none has the same hash as ever
        by_default = self.strategy == "overlap" and not tables.health.private
        run["rehearse"] = by_default if tables.run.rehearse is None else tables.run.rehearse
        job = {"job": tables.job.model_dump()} if self.batch is not None else {}
        return {
            **job,
            "app": self.app,
            "strategy": self.strategy,
            "run": run,
            "health": tables.health.model_dump(),
            "drain": _drain(tables.drain),
            "install": tables.install.model_dump(),
            "check": tables.check.model_dump(),
            "services": {
                name: _service(service) for name, service in tables.services.items() if service.service.model_fields_set
            },
        }

    def target(self, host: str = "local") -> dict[str, Any]:
        """Where *host* of this target keeps the app, as docs/architecture.md draws it."""
        own = {"commands": self.target_table["commands"]} if self.supervisor == "command" else {}
        return {
            **own,
            **(self.batch or {}),
            "name": self.target_name,
            "host": host,
            "path": self.path,
            "keep": self.keep,
            "supervisor": self.supervisor,
            "adopt": self.tables.adopt.model_dump(exclude_none=True) or None,
            "pool": self.target_table["pool"],
        }

    def job(self) -> dict[str, Any] | None:
        """`[job]`: `command` (argv), `env`, `timeout` (seconds or None); None where there is none."""
        return self.tables.job.model_dump() if self.tables.job.command else None

    @property
    def is_a_job(self) -> bool:
        """Whether there is a job and no app beside it."""
        return self.tables.job.command is not None and self.tables.run.command is None and self.supervisor != "command"

    def of_the_job(self, autostop: bool = True) -> Config:
        """
        This config as that of a run: the job in the place of the app, in a directory of its own where there is an app as well.

        What `[run]` gives the app (`env`, `env_file`, `secrets`, `linked`) the job and the services get too, below their own `env`.
        """
        if self.batch is not None:
            return replace(self, batch={**self.batch, "autostop": autostop})
        run, job, beside = self.tables.run, self.tables.job, bool(self.tables.run.command)
        changes: dict[str, Any] = {"command": job.command, "env": {**run.env, **job.env}, "socket": None, "ports": []}
        tables = replace(
            self.tables,
            run=run.model_copy(update={**changes, "rehearse": False, "systemd": {}}),
            health=Health(),
            adopt=Adopt(),
        )
        return replace(
            self, tables=tables, strategy="restart", supervisor="builtin", path=f"{self.path}/job" if beside else self.path,
            target_table={**self.target_table, "pool": None, "verify": None, "commands": None},
            batch={"autostop": autostop, "beside": beside},
        )  # fmt: skip

    def rungs(self) -> list[Rung]:
        """The timeout ladder from the inside out, for outer layers to be added."""
        return _rungs(self.tables.drain)


def _rungs(drain: Drain) -> list[Rung]:
    return [Rung(f"drain.{name}", seconds) for name, seconds in set_rungs(drain)]


def _drain(drain: Drain) -> dict[str, Any]:
    return {**drain.model_dump(), "wait_idle": drain.wait_idle or None}


def _service(tables: ServiceTables) -> dict[str, Any]:
    own = tables.service.model_dump(by_alias=True, exclude={"health", "drain"})
    if own["files"] is None:
        del own["files"]  # a release whose services name none has the same hash as ever
    if own["ray"] is None:
        del own["ray"]
    own_ceiling = "ceiling" in tables.drain.model_fields_set
    return {**own, "health": tables.health.model_dump(), "drain": _drain(tables.drain), "own_ceiling": own_ceiling}


def with_ceiling(config: Config, seconds: float) -> Config:
    """*config* under `--ceiling`: a person decided, so a ladder that no longer rises is a warning, not an error."""
    if not 0 <= seconds < float("inf"):
        raise UsageError("--ceiling is not a duration", cause=f"{seconds} seconds", hint="write --ceiling 30s")
    drain = config.tables.drain.model_copy(update={"ceiling": float(seconds)})
    own = {
        name: replace(one, drain=one.drain.model_copy(update={"ceiling": float(seconds)}))
        for name, one in config.tables.services.items()
    }
    tables = replace(config.tables, drain=drain, services=own)
    return replace(config, tables=tables, warnings=config.warnings + tuple(_low_ceiling(drain)))


def _low_ceiling(drain: Drain) -> list[str]:
    ceiling = Rung("--ceiling", drain.ceiling)
    inner = [rung for rung in _rungs(drain)[:-1] if rung.seconds >= drain.ceiling]
    found = [f"{ladder.sentence(rung, ceiling)}: work may be cut" for rung in inner[-1:]]
    if drain.last_call and drain.last_call_before >= drain.ceiling:
        before = Rung("drain.last_call_before", drain.last_call_before)
        found.append(f"{ladder.sentence(before, ceiling)}: the last call is made at once")
    return found
