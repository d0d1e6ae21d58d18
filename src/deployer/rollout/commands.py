"""Every other command that talks to the hosts of a target."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError, FailedError
from deployer.link.session import Session
from deployer.rollout.commit import commit
from deployer.rollout.events import Emit, Stream
from deployer.rollout.hosts import connect, deploy_id, look, who
from deployer.rollout.push import PushOptions, follow, one_host

LOOK_EVERY = 0.3


def rollback(config: Config, release: str | None, options: PushOptions, emit: Emit) -> int:
    """Push *release*, or the newest good one before what serves, again: same drain, same gates; the exit code."""
    return _act(config, "rollback", options, emit, release=release)


def lifecycle(config: Config, kind: str, options: PushOptions, emit: Emit) -> int:
    """`start`, `stop` or `restart` under the drain rules; the exit code."""
    return _act(config, kind, options, emit)


def _act(config: Config, kind: str, options: PushOptions, emit: Emit, release: str | None = None) -> int:
    require_available(config)
    stream = Stream(deploy_id(kind), emit)
    name = "push" if kind == "rollback" else kind
    stream.event(f"{name}.started", app=config.app, target=config.target_name, release=release, kind=kind, who=who())
    with one_host(stream, kind), connect(config) as session:
        _commit(session, config, kind, options, stream, release)
        follow(config, session, stream, options.detach)
    return stream.finish(kind)


def _commit(
    session: Session, config: Config, kind: str, options: PushOptions, stream: Stream, release: str | None
) -> None:
    asked = {"kind": kind, "who": who(), **look(config)}
    facts = session.call_telling(
        stream.passed, "open", deploy=stream.deploy, wait_lock=options.wait_lock, detach=options.detach, **asked
    )
    stream.serving = (facts["instance"] or {}).get("release")
    commit(session, stream, release=release, **asked)


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


def attach(config: Config, emit: Emit) -> int:
    """Follow the deploy under way to its end; its exit code, 0 when there is none."""
    with connect(config) as session:
        under_way = _under_way(session, config)
        if not under_way:
            return 0
        stream = Stream(under_way["deploy"], emit)
        stream.committed = True
        with one_host(stream, under_way["kind"]):
            _wait_for_commit(session, config, under_way["deploy"])
            follow(config, session, stream, detach=False)
    return stream.finish(under_way["kind"])


def _under_way(session: Session, config: Config) -> dict[str, Any] | None:
    found: dict[str, Any] | None = session.call("observe", wake=True, **look(config))["under_way"]
    return found


def _wait_for_commit(session: Session, config: Config, deploy: str) -> None:
    """Until the host has *deploy*. Raises FailedError when its own client gave up before, as after a failed build."""
    while (found := _under_way(session, config)) and (found["deploy"], found["step"]) == (deploy, "prepare"):
        time.sleep(LOOK_EVERY)
    if not any(past["deploy"] == deploy for past in session.call("history", **look(config))):
        title = f"{deploy} ended before it was handed over to the host"
        raise FailedError(title, state="nothing was changed", hint="its own terminal says why")


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
