"""`deployer run`: the job is built here, shipped as a release, run there with its services; followed to its end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from deployer.artifact import open_artifact
from deployer.config import secrets
from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError, Interrupted, UsageError
from deployer.interrupts import Turns, in_turns
from deployer.rollout.content import Content
from deployer.rollout.events import Emit, Stream
from deployer.rollout.fleet import Fleet
from deployer.rollout.hostdeploy import HostDeploy
from deployer.rollout.hosts import chosen, connect, deploy_id, look, who
from deployer.rollout.order import Order, PushOptions, policy
from deployer.rollout.push import artifact_path, build
from deployer.rollout.rollout import Rollout

KIND = "run"


@dataclass(frozen=True)
class RunOptions:
    """
    What is wanted of one run. Without *autostop* its services stay up until `deployer stop`. *secrets*: the values of
    `run.secrets`, where they are not those of the environment.
    """

    push: PushOptions = field(default_factory=PushOptions)
    autostop: bool = True
    secrets: Mapping[str, str] | None = None


def run(config: Config, options: RunOptions, emit: Emit) -> int:
    """
    Start the services, run `[job]` to its end, clean up; the exit code of CONTRACT.md: 1 when the job failed.

    Every event goes to *emit*, the last being `run.finished`. Ctrl-C stops the job and waits for the clean-up; the host cleans
    up by itself when this client dies. Raises UsageError before anything was started, Interrupted after Ctrl-C.
    """
    config = job_of(config, options.autostop)
    require_available(config)
    host = _one_host(config, options.push)
    values = secrets.values(
        config.settings()["run"]["secrets"], os.environ if options.secrets is None else options.secrets
    )
    artifact_path(config, options.push)
    stream = Stream(deploy_id(KIND), emit)
    stream.event("run.started", app=config.app, target=config.target_name, release=None, kind=KIND, who=who())
    rollout = Rollout(Fleet(Order(config, KIND, options.push, values), stream, [host], policy(config)))
    with in_turns() as turns:
        try:
            with rollout.interruptible():
                if rollout.claim():
                    _run(rollout, stream)
        except Interrupted as interrupted:
            raise _stopped(str(stream.deploy), _stop(rollout, stream, interrupted, turns)) from None
    return rollout.finish()


def job_of(config: Config, autostop: bool = True) -> Config:
    """*config* as that of its job. Raises UsageError where it has none."""
    if config.job() is None:
        raise UsageError(
            "there is no job to run",
            cause=f"{config.file} has no [job]",
            state="nothing was started",
            hint='add [job] command = ["python3", "job.py"]',
        )
    return config.of_the_job(autostop)


def _one_host(config: Config, options: PushOptions) -> str:
    hosts = chosen(config, options.hosts)
    if len(hosts) > 1:
        raise UsageError(
            "a job runs on one host",
            cause=f"target {config.target_name} has {len(hosts)}",
            state="nothing was started",
            hint=f"name it: deployer run {config.target_name} --host {hosts[0]}",
        )
    return hosts[0]


def _run(rollout: Rollout, stream: Stream) -> None:
    order = rollout.order
    try:
        build(order.config, order.options, stream, order.secrets)
        with open_artifact(artifact_path(order.config, order.options), order.config.build.exclude) as opened:
            content = Content(opened, order.config)
            if rollout.stage(content):
                rollout.roll(content)
    except DeployerError as error:
        rollout.fail(error)


def _stop(rollout: Rollout, stream: Stream, interrupted: Interrupted, turns: Turns) -> str:
    """
    Have the job stopped, and follow the clean-up: how things stand then. A second Ctrl-C does not keep the host from being asked.

    Raises *interrupted* where it could not be.
    """
    (begun,) = rollout.fleet.deploys.values()
    again = HostDeploy(begun.host, Order(rollout.order.config, KIND, PushOptions()), stream, begun.deploy)
    again.seen, again.printed, again.committed, again.serving = begun.seen, begun.printed, True, begun.serving
    asked = {"what": "abort", "who": who(), "deploy": begun.deploy}
    told = False
    try:
        with connect(rollout.order.config, begun.host) as session:
            session.call("control", **asked, **look(rollout.order.config, begun.host))
        told = True
        turns.next()
        again.follow()
    except DeployerError:
        raise interrupted from None
    except KeyboardInterrupt:
        raise (_let_go(str(begun.deploy)) if told else interrupted) from None
    finally:
        again.leave()
        again.close()
    stream.finish(KIND, [again.result])
    error = (again.finished or {}).get("error") or {}
    return str(error.get("state") or "the job had ended, and its services were cleaned up")


def _stopped(deploy: str, state: str) -> Interrupted:
    return Interrupted(f"{deploy} was stopped", state=state, hint="run it again")


def _let_go(deploy: str) -> Interrupted:
    return Interrupted(
        f"detached from {deploy}",
        state="the host stops the job and cleans up by itself",
        hint="follow it with `deployer attach`",
    )
