"""`deployer push`: build here, hand over there, watch."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deployer.artifact import Artifact, open_artifact
from deployer.build import run_build
from deployer.config import secrets
from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError, Interrupted, LinkError, UsageError
from deployer.link.session import Session
from deployer.manifest import is_release_id, release_hash, release_id
from deployer.rollout.commit import commit
from deployer.rollout.events import Emit, Stream
from deployer.rollout.hosts import connect, deploy_id, look, who
from deployer.rollout.upload import upload
from deployer.wire.redaction import Redactor

RECONNECTS = 3


PAST_THE_GATES = ("drain.started", "start.finished")
"""From here on nothing can fail that a person who detached could mend by looking on."""


@dataclass(frozen=True)
class PushOptions:
    """What the command line says about one push. `wait_lock` in seconds; `supersede` sends away who waits already."""

    artifact: Path | None = None
    release: str | None = None
    build: bool = True
    detach: bool = False
    wait_lock: float = 0.0
    supersede: bool = False
    hosts: tuple[str, ...] = ()


def push(config: Config, options: PushOptions, emit: Emit) -> int:
    """
    Replace the running service by a new release; the exit code of CONTRACT.md.

    Every event goes to *emit*, the last being `push.finished`. Raises UsageError before anything was started.
    """
    require_available(config)
    _require_host(config, options)
    values = secrets.values(config.settings()["run"]["secrets"], os.environ)
    _require_something_to_push(config, options)
    stream = Stream(deploy_id("push"), emit)
    stream.event(
        "push.started", app=config.app, target=config.target_name, release=options.release, kind="push", who=who()
    )
    with one_host(stream, "push"), connect(config) as session:
        _push_to(session, config, options, stream, values)
    return stream.finish("push")


@contextmanager
def one_host(stream: Stream, kind: str) -> Iterator[None]:
    """Turn what stops one host's part, Ctrl-C too, into its `host.finished`; once it was handed over, into an error."""
    try:
        yield
    except KeyboardInterrupt:
        if stream.committed:
            raise interrupted(stream, kind) from None
        stream.failed(interrupted(stream, kind), "local")
    except DeployerError as error:
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
    if kind == "abort":
        return Interrupted(
            f"detached from {stream.deploy}",
            state="it is aborted on the host: the old process finishes its work, then the old release starts again",
            hint="follow it with `deployer attach`",
        )
    return Interrupted(
        f"detached from {stream.deploy}",
        state="it goes on on the host: the old process finishes its work, then the new release starts",
        hint="follow it with `deployer attach`, or take it back with `deployer abort`",
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


def _require_something_to_push(config: Config, options: PushOptions) -> None:
    if options.release is None:
        artifact_path(config, options)
    elif not is_release_id(options.release):
        raise UsageError(
            f'"{options.release}" cannot name a release',
            hint="letters, digits, dots, dashes and underscores; at most 64",
        )


def _require_host(config: Config, options: PushOptions) -> None:
    unknown = [host for host in options.hosts if host not in (config.hosts or ("local",))]
    if unknown:
        raise UsageError(
            f"target {config.target_name} has no host {unknown[0]}",
            hint=f"it has: {', '.join(config.hosts) or 'local'}",
        )


def _push_to(session: Session, config: Config, options: PushOptions, stream: Stream, values: dict[str, str]) -> None:
    asked = {"who": who(), **look(config)}
    facts = session.call_telling(
        stream.passed, "open", deploy=stream.deploy, kind="push", wait_lock=options.wait_lock, supersede=options.supersede,
        detach=options.detach, **asked,
    )  # fmt: skip
    stream.serving = (facts["instance"] or {}).get("release")
    known = {release["id"] for release in facts["releases"]}
    if options.release in known:
        _refuse_artifact(options)
        commit(session, stream, kind="rollback", release=options.release, **asked)
    else:
        build(config, options, stream, values)
        with open_artifact(artifact_path(config, options), config.build.exclude) as opened:
            upload(session, opened, stream)
            release = options.release or _new_id(opened, config, known)
            manifest = opened.manifest.digest
        commit(session, stream, kind="push", release=release, manifest=manifest, secrets=values, **asked)
    follow(config, session, stream, options.detach)


def _refuse_artifact(options: PushOptions) -> None:
    if options.artifact is not None:
        raise UsageError(
            f"release {options.release} is already on the host",
            state="nothing was changed",
            hint="leave out --artifact to push it again, or choose another --release",
        )


def _new_id(opened: Artifact, config: Config, known: Collection[str]) -> str:
    """An id that no release here has: the same content may be pushed twice within a second, with another secret."""
    digest, moment = release_hash(opened.manifest.digest, config.settings()), datetime.now(UTC)
    while release_id(moment, digest) in known:
        moment += timedelta(seconds=1)
    return release_id(moment, digest)


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


def follow(config: Config, session: Session, stream: Stream, detach: bool) -> None:
    """Pass the host's events on until its part has ended; with *detach* until the gates are behind it."""
    try:
        _pass_on(session, stream, detach)
    except LinkError:
        _follow_again(config, stream, detach)


def _follow_again(config: Config, stream: Stream, detach: bool) -> None:
    """The engine that told us has died, the deploy has not: ask another one. Raises Interrupted when none can tell."""
    for _ in range(RECONNECTS):
        try:
            with connect(config) as session:
                return _pass_on(session, stream, detach)
        except LinkError:
            continue
    raise interrupted(stream, "push")


def _pass_on(session: Session, stream: Stream, detach: bool) -> None:
    if stream.finished is None:
        for event in session.follow(str(stream.deploy), stream.seen):
            stream.passed(event)
            if detach and event["event"] in PAST_THE_GATES:
                return


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
