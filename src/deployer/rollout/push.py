"""`deployer push`: build here, hand over there, watch."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from deployer.artifact import open_artifact
from deployer.build import run_build
from deployer.config import secrets
from deployer.config.available import require_available, require_service
from deployer.config.model import Config
from deployer.errors import DeployerError, UsageError
from deployer.manifest import is_release_id
from deployer.rollout.content import Content
from deployer.rollout.engine.chosen import engine
from deployer.rollout.events import Emit, Stream
from deployer.rollout.fleet import Fleet
from deployer.rollout.hosts import chosen, deploy_id, who
from deployer.rollout.ladder import require_time
from deployer.rollout.order import Order, PushOptions, policy
from deployer.rollout.rollout import Rollout
from deployer.rollout.witness import witness_of
from deployer.wire.redaction import Redactor

__all__ = ["PushOptions", "push"]


def push(config: Config, options: PushOptions, emit: Emit) -> int:
    """
    Replace the running service by a new release, host by host; the exit code of CONTRACT.md.

    Every event goes to *emit*, the last being `push.finished`. Raises UsageError before anything was started.
    """
    if config.ray is not None:
        from deployer.rollout.raytarget.push import push as to_ray  # a target of hosts never needs it

        return to_ray(config, options, emit)
    require_available(config)
    require_service(config)
    if not options.detach:
        require_time(config, os.environ)
    hosts = chosen(config, options.hosts)
    values = secrets.values(config.settings()["run"]["secrets"], os.environ)
    _require_something_to_push(config, options)
    witness = witness_of(config, "push")
    stream = Stream(deploy_id("push"), witness.noting(emit))
    name = engine(config, options.engine)
    stream.event(
        "push.started", app=config.app, target=config.target_name, release=options.release, kind="push", who=who()
    )
    rollout = Rollout(Fleet(Order(config, "push", options, values), stream, hosts, policy(config)))
    with ExitStack() as carriers:
        with witness, rollout.interruptible():
            if rollout.carry(carriers, name) and rollout.claim():
                _push(rollout, stream)
        return rollout.finish(witness=witness)


def _push(rollout: Rollout, stream: Stream) -> None:
    order = rollout.order
    release = order.options.release
    try:
        if release is not None and rollout.has(release):
            _refuse_artifact(order.options)
            rollout.reorder("rollback", release)
            return rollout.roll()
        build(order.config, order.options, stream, order.secrets)
        with open_artifact(artifact_path(order.config, order.options), order.config.build.exclude) as opened:
            content = Content(opened, order.config, release)
            if rollout.stage(content):
                rollout.roll(content)
    except DeployerError as error:
        rollout.fail(error)


def artifact_path(config: Config, options: PushOptions) -> Path:
    """The artifact to push. Raises UsageError when neither the config nor the command line names one."""
    if options.artifact is not None:
        return options.artifact
    if config.build.artifact is None:
        raise UsageError(
            "there is no artifact to push",
            cause=f"{config.file} has no build.artifact",
            state="nothing was changed",
            hint='add [build] artifact = "dist", or call with --artifact PATH',
        )
    return config.directory / config.build.artifact


def _require_something_to_push(config: Config, options: PushOptions) -> None:
    if options.release is None:
        artifact_path(config, options)
    elif not is_release_id(options.release):
        raise UsageError(
            f'"{options.release}" cannot name a release',
            hint="letters, digits, dots, dashes and underscores; at most 64",
        )


def _refuse_artifact(options: PushOptions) -> None:
    if options.artifact is not None:
        raise UsageError(
            f"release {options.release} is already on the host",
            state="nothing was changed",
            hint="leave out --artifact to push it again, or choose another --release",
        )


def build(config: Config, options: PushOptions, stream: Stream, values: dict[str, str]) -> None:
    """Run the build command, if there is one and it is wanted."""
    if config.build.command is None or not options.build or options.artifact is not None:
        return

    redact = Redactor(values).text

    def line(text: str) -> None:
        stream.event("build.output", line=redact(text))

    try:
        took = run_build(config.build.command, config.directory, config.build.timeout, line)
    except DeployerError as error:
        if error.cause:
            error.cause = redact(error.cause)
        raise
    stream.event("build.finished", took_s=round(took, 3))
