"""The tables that hold for one target: those at the top of the file, under what the target overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployer.config.schema import Adopt, Build, Check, Drain, Health, Install, Job, Run, Service

OVERRIDABLE = ("build", "install", "check", "run", "health", "drain", "adopt", "services", "job")


@dataclass(frozen=True)
class ServiceTables:
    """One `[services.NAME]` with its own health and drain."""

    service: Service
    health: Health
    drain: Drain


@dataclass(frozen=True)
class Tables:
    """Every table of a release, complete with defaults."""

    build: Build
    install: Install
    check: Check
    run: Run
    health: Health
    drain: Drain
    adopt: Adopt
    job: Job
    services: Mapping[str, ServiceTables]


def override(top: Mapping[str, Any], target: Mapping[str, Any]) -> dict[str, Any]:
    """The raw tables of *top* with those of *target* merged in, key by key; `adopt` is replaced as a whole."""
    merged = {name: top[name] for name in OVERRIDABLE if name in top}
    for name in OVERRIDABLE:
        if name in target:
            merged[name] = target[name] if name == "adopt" else _merged(merged.get(name, {}), target[name])
    return merged


def _merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


def build(raw: Mapping[str, Any]) -> Tables:
    """The tables in *raw*, which have been found valid one by one."""
    return Tables(
        build=Build.model_validate(raw.get("build", {})),
        install=Install.model_validate(raw.get("install", {})),
        check=Check.model_validate(raw.get("check", {})),
        run=Run.model_validate(raw.get("run", {})),
        health=Health.model_validate(raw.get("health", {})),
        drain=Drain.model_validate(raw.get("drain", {})),
        adopt=Adopt.model_validate(raw.get("adopt", {})),
        job=Job.model_validate(raw.get("job", {})),
        services={name: _service(service) for name, service in raw.get("services", {}).items()},
    )


def _service(raw: Mapping[str, Any]) -> ServiceTables:
    service = Service.model_validate(raw)
    return ServiceTables(
        service, Health.model_validate(service.health or {}), Drain.model_validate(service.drain or {})
    )


def set_rungs(drain: Drain) -> list[tuple[str, float]]:
    """The rungs of the timeout ladder that *drain* sets, from the inside out: key and seconds."""
    known = ("longest_task", drain.longest_task), ("app_grace", drain.app_grace), ("ceiling", drain.ceiling)
    return [(name, seconds) for name, seconds in known if seconds is not None]
