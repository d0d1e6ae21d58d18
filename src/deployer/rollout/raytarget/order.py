"""What the directory is told to do: the instances of a release, as plain data. Secret values are never in it."""

from __future__ import annotations

import time
from typing import Any

from deployer.config.actors import DEFAULTS
from deployer.config.model import Config
from deployer.config.tables import ServiceTables
from deployer.ray.words import instance_name
from deployer.rollout.content import Content
from deployer.rollout.hosts import who

Json = dict[str, Any]


def push_order(config: Config, content: Content, release: str, deploy: str, env: Json) -> Json:
    """The order to serve *release*; *env* is the runtime environment of its instances."""
    shared = {
        "app": config.app, "deploy": deploy, "order": time.time_ns(), "release": release, "digest": content.digest,
        "runtime_env": env, "secrets": list(config.tables.run.secrets),
    }  # fmt: skip
    specs = [{**shared, **_spec(config, name, tables, deploy)} for name, tables in config.tables.services.items()]
    return {**bare_order(config, deploy, "push", release), "specs": specs}


def bare_order(config: Config, deploy: str, kind: str, release: str | None = None) -> Json:
    """An order that brings nothing along, such as a stop. `ceilings` are for what drains now, whatever it was pushed with."""
    ceilings = {name: _ceiling(config, tables) for name, tables in config.tables.services.items()}
    return {"deploy": deploy, "kind": kind, "who": who(), "release": release, "ceilings": ceilings}


def restart_order(config: Config, deploy: str, release: str | None) -> Json:
    """The order to have the instances that serve replaced by others like them."""
    return {**bare_order(config, deploy, "restart", release), "again": {"deploy": deploy, "order": time.time_ns()}}


def _spec(config: Config, name: str, tables: ServiceTables, deploy: str) -> Json:
    return {
        "name": instance_name(name, deploy), "service": name, "class": tables.service.class_,
        "env": {**config.tables.run.env, **tables.service.env}, "ray": tables.service.ray or {**DEFAULTS, "resources": {}},
        "cleanup_timeout": tables.service.cleanup_timeout, "ready_within": tables.health.ready_within,
        "health_interval": tables.health.interval, "ceiling": _ceiling(config, tables),
    }  # fmt: skip


def _ceiling(config: Config, tables: ServiceTables) -> float:
    """Its own where it has one, else that of [drain]."""
    return (tables if "ceiling" in tables.drain.model_fields_set else config.tables).drain.ceiling
