"""Which engine a command asked for, and its carrier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deployer.config.model import Config
from deployer.errors import UsageError
from deployer.rollout.carrier import Carrier, Here

THREADS, RAY = "threads", "ray"
ENGINES = (THREADS, RAY)


def engine(config: Config, asked: str | None = None) -> str:
    """The engine of the command line, or that of the config. Raises UsageError where it is none, or cannot work."""
    name = asked or str((config.target_table["rollout"] or {}).get("engine") or THREADS)
    if name not in ENGINES:
        hint = f"there are: {', '.join(ENGINES)}"
        raise UsageError(f"there is no engine {name}", state="nothing was changed", hint=hint)
    if name == RAY:
        _require_ray(config)
    return name


def _require_ray(config: Config) -> None:
    from deployer.jobs.cluster import check

    if not config.hosts:
        raise UsageError(
            f"target {config.target_name} has no hosts for the engine ray to reach",
            cause="it is this machine, and tasks on a cluster would run elsewhere",
            state="nothing was changed", hint="leave out --engine ray, or name a target with hosts",
        )  # fmt: skip
    check()


@contextmanager
def carrier(config: Config, name: str, hosts: int) -> Iterator[Carrier]:
    """Who carries the links to so many *hosts* with the engine *name*. Raises LinkError or PreflightError: nothing was changed."""
    if name != RAY:
        yield Here()
        return
    from deployer.rollout.engine.cluster import carried  # imports Ray, which takes a second

    address = (config.target_table["rollout"] or {}).get("ray_address")
    with carried(address, hosts) as on_cluster:
        yield on_cluster
