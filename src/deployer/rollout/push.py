"""`deployer push`: build here, hand over there, watch."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployer.artifact import open_artifact
from deployer.build import run_build
from deployer.config import secrets
from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError, UsageError
from deployer.manifest import is_release_id, release_hash, release_id
from deployer.rollout.content import Content
from deployer.rollout.events import Emit, Stream
from deployer.rollout.fleet import Fleet
from deployer.rollout.hosts import chosen, connect, deploy_id, look, who
from deployer.rollout.order import Order, PushOptions, policy
from deployer.rollout.rollout import Rollout
from deployer.wire.redaction import Redactor

__all__ = ["PushOptions", "plan", "push"]


def push(config: Config, options: PushOptions, emit: Emit) -> int:
    """
    Replace the running service by a new release, host by host; the exit code of CONTRACT.md.

    Every event goes to *emit*, the last being `push.finished`. Raises UsageError before anything was started.
    """
    require_available(config)
    hosts = chosen(config, options.hosts)
    values = secrets.values(config.settings()["run"]["secrets"], os.environ)
    _require_something_to_push(config, options)
    stream = Stream(deploy_id("push"), emit)
    stream.event(
        "push.started", app=config.app, target=config.target_name, release=options.release, kind="push", who=who()
    )
    rollout = Rollout(Fleet(Order(config, "push", options, values), stream, hosts, policy(config)))
    with rollout.interruptible():
        if rollout.claim():
            _push(rollout, stream)
    return rollout.finish()


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


def plan(config: Config, options: PushOptions) -> dict[str, Any]:
    """The steps that a push would run, from what was observed; changes nothing and builds nothing."""
    require_available(config)
    artifact = artifact_path(config, options)
    asked = look(config)
    warnings = list(config.warnings)
    with connect(config) as session:
        facts = session.call("observe", **asked)
        manifest, release = None, options.release or "<new release>"
        if artifact.exists():
            with open_artifact(artifact, config.build.exclude) as opened:
                manifest = opened.manifest.to_json()
                if options.release is None:
                    release = release_id(datetime.now(UTC), release_hash(opened.manifest.digest, config.settings()))
        else:
            warnings.append(f"{artifact} does not exist yet: the build has to make it")
        known = {found["id"] for found in facts["releases"]}
        kind = "rollback" if options.release in known else "push"
        values = {name: os.environ.get(name, "") for name in asked["settings"]["run"]["secrets"]}
        found = session.call(
            "plan",
            kind=kind,
            release=release,
            manifest=manifest or [],
            secrets=values,
            deploy="plan",
            who=who(),
            **asked,
        )
        warnings += [problem["title"] for problem in facts["problems"]]
        drains = facts["drains"]
        if drains and drains["warning"] and facts["instance"] and found["steps"]:
            warnings.append(drains["warning"])
    steps = [*_build_steps(config, options), *found["steps"]]
    if not found["steps"]:
        steps = []
    return {
        "hosts": [
            {"host": session.host, "release": found["release"], "steps": steps, "warnings": [], "drains": drains}
        ],
        "warnings": warnings,
    }


def _build_steps(config: Config, options: PushOptions) -> list[dict[str, str]]:
    if config.build.command is None or not options.build or options.artifact is not None:
        return []
    command = config.build.command
    return [{"step": "build", "what": command[2] if command[:2] == ("sh", "-c") else " ".join(command)}]
