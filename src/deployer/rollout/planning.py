"""`deployer plan`: what a push would do on each host, from what was observed there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from deployer.artifact import open_artifact
from deployer.config.available import require_available, require_service
from deployer.config.model import Config
from deployer.errors import DeployerError
from deployer.link.session import Session
from deployer.manifest import release_hash, release_id
from deployer.rollout.asking import answers
from deployer.rollout.hosts import only, who
from deployer.rollout.ladder import CEILING, faults, ladder
from deployer.rollout.own_files import own_files
from deployer.rollout.push import PushOptions, artifact_path

BLANK: dict[str, Any] = {"release": None, "steps": [], "warnings": [], "drains": None}


@dataclass
class Offer:
    """What would be pushed: `manifest` is empty where the build has yet to make it."""

    release: str
    manifest: list[dict[str, Any]] = field(default_factory=list)
    service_files: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def plan(config: Config, options: PushOptions) -> dict[str, Any]:
    """The steps that a push would run, host by host; changes nothing and builds nothing. Raises UsageError."""
    if config.ray is not None:
        from deployer.rollout.raytarget.show import plan as on_ray  # a target of hosts never needs it

        return on_ray(config, options)
    require_available(config)
    require_service(config)
    config = only(config, options.hosts)
    offer = _offer(config, options)
    data = answers(config, lambda session, asked: _plan(session, asked, config, options, offer), BLANK)
    if not config.hosts:  # this machine: what to be warned of needs no name
        offer.warnings += data["hosts"][0]["warnings"]
        data["hosts"][0]["warnings"] = []
    return {**data, "warnings": offer.warnings}


def _offer(config: Config, options: PushOptions) -> Offer:
    artifact = artifact_path(config, options)
    offer = Offer(options.release or "<new release>", warnings=list(config.warnings))
    if not artifact.exists():
        offer.warnings.append(f"{artifact} does not exist yet: the build has to make it")
        return offer
    with open_artifact(artifact, config.build.exclude) as opened:
        offer.manifest = opened.manifest.to_json()
        offer.service_files = own_files(opened.manifest, config.settings()["services"])
        if options.release is None:
            offer.release = release_id(datetime.now(UTC), release_hash(opened.manifest.digest, config.settings()))
    return offer


def _plan(
    session: Session, asked: dict[str, Any], config: Config, options: PushOptions, offer: Offer
) -> dict[str, Any]:
    facts = session.call("observe", pool=True, limits=True, **asked)
    known = {found["id"] for found in facts["releases"]}
    found = session.call(
        "plan",
        kind="rollback" if options.release in known else "push",
        release=offer.release,
        manifest=offer.manifest,
        service_files=offer.service_files,
        secrets={name: os.environ.get(name, "") for name in asked["settings"]["run"]["secrets"]},
        deploy="plan",
        who=who(),
        **asked,
    )
    steps = [*_build_steps(config, options), *found["steps"]] if found["steps"] else []
    return {
        "release": found["release"],
        "steps": steps,
        "warnings": _warnings(facts, bool(steps)) + _ladder(config, facts),
        "drains": facts["drains"],
        "units": found.get("units") or [],
    }


def _warnings(facts: dict[str, Any], acts: bool) -> list[str]:
    drains = facts["drains"]
    close = drains["warning"] if drains and facts["instance"] and acts else None
    problems = [*facts["problems"], *([facts["pool"]["error"]] if (facts.get("pool") or {}).get("error") else [])]
    gap = f"this push has a gap: {facts['gap']}" if facts["gap"] and acts else None
    return [*(DeployerError.from_json(problem).title for problem in problems), *filter(None, (gap, close))]


def _ladder(config: Config, facts: dict[str, Any]) -> list[str]:
    """What was found on this host, and the CI job's limit: where a push would be cut. The config has warned of itself."""
    found = faults(ladder(config, {"": facts["limits"]}, os.environ))
    return [f"the timeout ladder: {rung.fault}; {rung.hint}" for rung in found if rung.kind != CEILING]


def _build_steps(config: Config, options: PushOptions) -> list[dict[str, str]]:
    if config.build.command is None or not options.build or options.artifact is not None:
        return []
    command = config.build.command
    return [{"step": "build", "what": command[2] if command[:2] == ("sh", "-c") else " ".join(command)}]
