"""What is on a Ray target, and what a push would do there: `status`, `plan`, `doctor`. Nothing is changed, nobody is created."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from deployer.artifact import open_artifact
from deployer.config import secrets
from deployer.config.model import Config
from deployer.errors import DeployerError
from deployer.manifest import release_hash, release_id
from deployer.rollout.order import PushOptions
from deployer.rollout.raytarget.desk import Desk
from deployer.rollout.raytarget.reach import connected, host_of

Data = dict[str, Any]
NOTHING: Data = {"services": [], "leaving": [], "under_way": None}


def look(config: Config) -> Data:
    """What the directory says; nothing where there is none. Raises DeployerError."""
    with connected(config) as ray:
        desk = Desk(ray, config)
        return dict(desk.ask("observe")) if desk.there() else dict(NOTHING)


def status(config: Config) -> Data:
    """What serves on the cluster, what still drains, what is under way."""
    try:
        seen = look(config)
    except DeployerError as error:
        if error.code == 2:
            raise
        return {"hosts": [{"host": host_of(config), "facts": None, "error": error.to_json()}]}
    services, leaving = [_service(one) for one in seen["services"]], [_service(one) for one in seen["leaving"]]
    release = services[-1]["release"] if services else None
    state = ("serving" if all(one["state"] == "ready" for one in services) else "failed") if services else "stopped"
    host = {
        "host": host_of(config), "status": state, "release": release, "deploy": seen["under_way"], "draining": leaving,
        "pid": None, "uptime_s": None, "started_at": None, "health": "none", "busy": None,
        "tasks": [task for one in services for task in one["tasks"]],
        "facts": {"services": services, "leaving": leaving, "current": release, "under_way": seen["under_way"]},
        "error": None,
    }  # fmt: skip
    return {"hosts": [host]}


def _service(one: Data) -> Data:
    told = {name: one[name] for name in ("state", "pid", "node", "trouble", "tasks")}
    return {"service": one["spec"]["service"], "release": one["spec"]["release"], "class": one["spec"]["class"], **told}


def plan(config: Config, options: PushOptions) -> Data:
    """The steps of a push, from what serves now."""
    from deployer.rollout.push import artifact_path

    seen, warnings, release = look(config), list(config.warnings), options.release or "<new release>"
    path = artifact_path(config, options)
    if not path.exists():
        warnings.append(f"{path} does not exist yet: the build has to make it")
    else:
        with open_artifact(path, config.build.exclude) as opened:
            hash_ = release_hash(opened.manifest.digest, config.settings())
            release = options.release or release_id(datetime.now(UTC), hash_)
    host = {
        "host": host_of(config),
        "release": release,
        "steps": _steps(config, options, seen, release),
        "warnings": [],
    }
    return {"hosts": [{**host, "drains": None, "units": []}], "warnings": warnings}


def _steps(config: Config, options: PushOptions, seen: Data, release: str) -> list[Data]:
    builds = config.build.command and options.build and options.artifact is None
    steps = [{"step": "build", "what": " ".join(config.build.command or ())}] if builds else []
    steps.append({"step": "stage", "what": "the artifact goes to the cluster, as a working directory"})
    for name, tables in config.tables.services.items():
        steps.append(
            {"step": "start", "what": f"{name}: {tables.service.class_}, ready within {tables.health.ready_within:g} s"}
        )
    steps.append({"step": "switch", "what": f"every name moves to {release} at once"})
    for one in seen["services"]:
        spec = one["spec"]
        what = f"{spec['service']} of {spec['release']}: no more calls, its own finished within {spec['ceiling']:g} s, then its end"
        steps.append({"step": "drain", "what": what})
    return steps


def doctor(config: Config) -> Data:
    """Everything that a push needs: the config, the secrets, the cluster, Ray's version, room for the instances."""
    from deployer.rollout.doctor import Report

    here, there = Report("local"), Report(host_of(config))
    here.note("config", True, f"{config.file} is in order")
    for warning in config.warnings:
        here.note("config", None, warning)
    names = config.settings()["run"]["secrets"]
    here.attempt("secrets", lambda: secrets.values(names, os.environ), "every value is set")
    try:
        with connected(config) as ray:
            _cluster(there, config, ray)
    except DeployerError as error:
        there.error("reach", error)
    code = here.exit_code or there.exit_code
    return {"checks": [*here.checks, *there.checks], "ladder": "", "rungs": [], "exit_code": code}


def _cluster(report: Any, config: Config, ray: Any) -> None:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    # Ray refuses a driver of another version or Python before it gets here.
    report.note("reach", True, f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}, Ray {ray.__version__} as here")
    _room(report, config, ray.available_resources(), nodes)
    desk = Desk(ray, config)
    seen = desk.ask("observe") if desk.there() else NOTHING
    for one in seen["services"]:
        ok = True if one["state"] == "ready" else None
        report.note(one["spec"]["service"], ok, f"{one['state']} on {one['spec']['release']}", one["trouble"])
    if not seen["services"]:
        report.note("services", None, "nothing runs yet", "deployer push")


def _room(report: Any, config: Config, free: Data, nodes: list[Data]) -> None:
    for name, tables in config.tables.services.items():
        wanted = _wanted(tables.service.ray or {})
        if not any(all(node["Resources"].get(key, 0) >= amount for key, amount in wanted.items()) for node in nodes):
            report.exit_code = report.exit_code or 6
            report.note("room", False, f"no node has what {name} needs: {wanted}", "look at `ray status`")
        elif any(free.get(key, 0) < amount for key, amount in wanted.items()):
            detail = f"{name} needs {wanted}, and that is not free now: old and new stand side by side in a push"
            report.note("room", None, detail, "add a node, or stop first")
        else:
            report.note("room", True, f"there is room for {name} ({wanted or 'it needs nothing'})")


def _wanted(ray: Data) -> Data:
    plain = {"CPU": ray.get("num_cpus", 0), "GPU": ray.get("num_gpus", 0), **ray.get("resources", {})}
    return {name: amount for name, amount in plain.items() if amount}
