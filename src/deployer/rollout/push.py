"""`deployer push`: build here, hand over there, watch."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployer.artifact import Artifact, open_artifact
from deployer.build import run_build
from deployer.config import secrets
from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError, Interrupted, UsageError
from deployer.link.session import Session
from deployer.manifest import is_release_id, key, release_hash, release_id
from deployer.rollout.events import Emit, Stream
from deployer.rollout.hosts import connect, deploy_id, look, who


@dataclass(frozen=True)
class PushOptions:
    """What the command line says about one push. `wait_lock` in seconds."""

    artifact: Path | None = None
    release: str | None = None
    build: bool = True
    detach: bool = False
    wait_lock: float = 0.0
    hosts: tuple[str, ...] = ()


def push(config: Config, options: PushOptions, emit: Emit) -> int:
    """
    Replace the running service by a new release; the exit code of CONTRACT.md.

    Every event goes to *emit*, the last being `push.finished`. Raises UsageError before anything was started.
    """
    require_available(config)
    _require_host(config, options)
    values = secrets.values(config.settings()["run"]["secrets"], os.environ)
    artifact = artifact_path(config, options)
    if options.release is not None and not is_release_id(options.release):
        raise UsageError(
            f'"{options.release}" cannot name a release',
            hint="letters, digits, dots, dashes and underscores; at most 64",
        )
    stream = Stream(deploy_id("push"), emit)
    stream.event(
        "push.started", app=config.app, target=config.target_name, release=options.release, kind="push", who=who()
    )
    with one_host(stream, "push"), connect(config) as session:
        _push_to(session, config, options, stream, values, artifact)
    return 0 if options.detach and stream.finished is None else stream.finish("push")


@contextmanager
def one_host(stream: Stream, kind: str) -> Iterator[None]:
    """Turn what stops one host's part into its result: an error into `host.finished`, Ctrl-C into Interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        raise interrupted(stream, kind) from None
    except DeployerError as error:
        if isinstance(error, Interrupted):
            raise
        if stream.committed:
            raise
        stream.failed(error, "local")


def interrupted(stream: Stream, kind: str) -> Interrupted:
    """What a person is told who stopped the client."""
    if not stream.committed:
        return Interrupted(
            f"{kind} stopped",
            state="nothing was changed; the running release was not touched",
            hint="push again when you like",
        )
    return Interrupted(
        f"detached from {stream.deploy}",
        state="it goes on on the host: the old process finishes its work, then the new release starts",
        hint="follow it with `deployer attach`, see where it stands with `deployer status`",
    )


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


def _require_host(config: Config, options: PushOptions) -> None:
    unknown = [host for host in options.hosts if host not in (config.hosts or ("local",))]
    if unknown:
        raise UsageError(
            f"target {config.target_name} has no host {unknown[0]}",
            hint=f"it has: {', '.join(config.hosts) or 'local'}",
        )


def _push_to(
    session: Session, config: Config, options: PushOptions, stream: Stream, values: dict[str, str], artifact: Path
) -> None:
    asked = look(config)
    facts = session.call(
        "open",
        deploy=stream.deploy,
        kind="push",
        who=who(),
        wait_lock=options.wait_lock,
        detach=options.detach,
        **asked,
    )
    stream.serving = (facts["instance"] or {}).get("release")
    known = {release["id"] for release in facts["releases"]}
    if options.release is not None and options.release in known:
        if options.artifact is not None:
            raise UsageError(
                f"release {options.release} is already on the host",
                state="nothing was changed",
                hint="leave out --artifact to push it again, or choose another --release",
            )
        session.call("commit", kind="rollback", release=options.release, deploy=stream.deploy, who=who(), **asked)
    else:
        build(config, options, stream, values)
        with open_artifact(artifact, config.build.exclude) as opened:
            _hand_over(session, config, options, stream, values, opened)
    follow(session, stream, options.detach)


def build(config: Config, options: PushOptions, stream: Stream, values: dict[str, str]) -> None:
    """Run the build command, if there is one and it is wanted."""
    if config.build.command is None or not options.build or options.artifact is not None:
        return

    def line(text: str) -> None:
        stream.event("build.output", line=redacted(text, values))

    try:
        took = run_build(config.build.command, config.directory, config.build.timeout, line)
    except DeployerError as error:
        if error.cause:
            error.cause = redacted(error.cause, values)
        raise
    stream.event("build.finished", took_s=round(took, 3))


def redacted(text: str, values: dict[str, str]) -> str:
    """*text* with every secret value blackened."""
    found = [re.escape(value) for value in sorted(values.values(), key=len, reverse=True) if len(value) >= 3]
    return re.sub("|".join(found), "***", text) if found else text


def _hand_over(
    session: Session, config: Config, options: PushOptions, stream: Stream, values: dict[str, str], opened: Artifact
) -> None:
    manifest = opened.manifest
    settings = config.settings()
    content = manifest.to_json()
    missing = set(session.call("have", manifest=content)["missing"])
    started, sent = time.monotonic(), 0
    total = sum(entry.size for entry in {key(e): e for e in manifest.files}.values() if key(entry) in missing)
    for entry in manifest.files:
        if key(entry) in missing:
            missing.discard(key(entry))
            with opened.open(entry) as file:
                sent += session.upload(key(entry), entry.size, file)
    if total > 0:
        stream.event("upload.finished", host=session.host, bytes_sent=sent, took_s=round(time.monotonic() - started, 3))
    release = options.release or release_id(datetime.now(UTC), release_hash(manifest.digest, settings))
    session.call(
        "commit",
        kind="push",
        release=release,
        manifest=content,
        secrets=values,
        deploy=stream.deploy,
        who=who(),
        **look(config),
    )


def follow(session: Session, stream: Stream, detach: bool) -> None:
    """Pass the host's events on until its part has ended; with *detach* not at all."""
    stream.committed = True
    if detach:
        return
    for event in session.follow(stream.deploy, stream.seen):
        stream.passed(event)


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
    steps = [*_build_steps(config, options), *found["steps"]]
    if not found["steps"]:
        steps = []
    return {
        "hosts": [{"host": session.host, "release": found["release"], "steps": steps, "warnings": found["warnings"]}],
        "warnings": warnings,
    }


def _build_steps(config: Config, options: PushOptions) -> list[dict[str, str]]:
    if config.build.command is None or not options.build or options.artifact is not None:
        return []
    command = config.build.command
    return [{"step": "build", "what": command[2] if command[:2] == ("sh", "-c") else " ".join(command)}]
