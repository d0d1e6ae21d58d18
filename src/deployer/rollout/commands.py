"""The other commands that act on the hosts of a target, or follow what acts there."""

from __future__ import annotations

import time
from typing import Any

from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import FailedError
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
