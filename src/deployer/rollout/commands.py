"""Every other command that talks to the hosts of a target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError
from deployer.rollout.events import Emit, Stream
from deployer.rollout.fleet import Fleet
from deployer.rollout.hosts import chosen, connect, deploy_id, look, who
from deployer.rollout.order import Order, PushOptions, policy
from deployer.rollout.rollout import Rollout


def rollback(config: Config, release: str | None, options: PushOptions, emit: Emit) -> int:
    """Push *release*, or the newest good one before what serves, again: same drain, same gates; the exit code."""
    return _act(config, "rollback", options, emit, release=release)


def lifecycle(config: Config, kind: str, options: PushOptions, emit: Emit) -> int:
    """`start`, `stop` or `restart` under the drain rules; the exit code."""
    return _act(config, kind, options, emit)


def _act(config: Config, kind: str, options: PushOptions, emit: Emit, release: str | None = None) -> int:
    require_available(config)
    hosts = chosen(config, options.hosts)
    stream = Stream(deploy_id(kind), emit)
    name = "push" if kind == "rollback" else kind
    stream.event(f"{name}.started", app=config.app, target=config.target_name, release=release, kind=kind, who=who())
    rollout = Rollout(Fleet(Order(config, kind, options, release=release), stream, hosts, policy(config)))
    with rollout.interruptible():
        if rollout.claim():
            rollout.roll()
    return rollout.finish()


def rollback_check(config: Config, release: str | None) -> dict[str, Any]:
    """Whether a rollback would work, as far as that can be seen without one: the release is there, and whole."""
    require_available(config)
    with connect(config) as session:
        try:
            found = session.call("plan", kind="rollback", release=release, deploy="check", who=who(), **look(config))
            problems = session.call("verify", release=found["release"], **look(config))
        except DeployerError as error:
            return _checked(session.host, release, False, error.title, error.hint, error.code)
    if problems:
        return _checked(session.host, found["release"], False, "; ".join(problems), "push it anew", 1)
    return _checked(session.host, found["release"], True, "present, whole, and it served before", None, 0)


def _checked(host: str, release: str | None, ok: bool, detail: str, hint: str | None, code: int) -> dict[str, Any]:
    return {"hosts": [{"host": host, "release": release, "ok": ok, "detail": detail, "hint": hint}], "exit_code": code}


def status(config: Config) -> dict[str, Any]:
    """What runs on each host; brings back a service that should run and whose keeper has died."""
    require_available(config)
    return {"hosts": [_status(config)]}


def _status(config: Config) -> dict[str, Any]:
    try:
        with connect(config) as session:
            facts = session.call("observe", wake=True, **look(config))
            return {"host": session.host, **_summary(facts), "facts": facts, "error": None}
    except DeployerError as error:
        return {"host": "local", "facts": None, "error": error.to_json()}


def _summary(facts: dict[str, Any]) -> dict[str, Any]:
    """What a script asks a host's status for, without digging."""
    running = facts["instance"] or {}
    return {
        "status": running.get("state") or ("draining" if facts["draining"] else "stopped"),
        **{name: running.get(name) for name in ("release", "pid", "uptime_s", "started_at")},
        **{name: facts["health"][name] for name in ("health", "busy", "tasks")},
        "deploy": facts["under_way"],
        "draining": facts["draining"],
    }


def releases(config: Config) -> dict[str, Any]:
    """The releases on each host, the newest first."""
    with connect(config) as session:
        return {"hosts": [{"host": session.host, "releases": session.call("releases", **look(config))}]}


def history(config: Config) -> dict[str, Any]:
    """Past deploys on each host, the newest first."""
    with connect(config) as session:
        return {"hosts": [{"host": session.host, "deploys": session.call("history", **look(config))}]}


def explain(config: Config, deploy: str | None) -> dict[str, Any]:
    """One deploy on each host as a timeline: the one whose name begins with *deploy*, else the last."""
    require_available(config)
    with connect(config) as session:
        return {"hosts": [{"host": session.host, **session.call("explain", deploy=deploy, **look(config))}]}


def logs(config: Config, lines: int, follow: bool, write: Callable[[bytes], None]) -> int:
    """The end of the app's output, and with *follow* what comes after it, given to *write*; the exit code."""
    with connect(config) as session:
        for piece in session.stream("logs", lines=lines, follow=follow):
            if isinstance(piece, bytes):
                write(piece)
    return 0
