"""`deployer attach`: follow what is under way, from any terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deployer.config.available import require_available
from deployer.config.model import Config
from deployer.errors import DeployerError, FailedError
from deployer.rollout.each import on_each
from deployer.rollout.events import Emit, Stream
from deployer.rollout.fleet import Fleet
from deployer.rollout.hostdeploy import HostDeploy
from deployer.rollout.hosts import chosen, connect, look
from deployer.rollout.order import Order, PushOptions, policy
from deployer.rollout.rollout import Rollout

LOOK_EVERY = 0.5
"""Seconds between two looks at who prepares a deploy, or has it wait for its turn."""

UnderWay = dict[str, Any]


def attach(config: Config, emit: Emit, hosts: Sequence[str] = ()) -> int:
    """
    Follow the deploy under way to its end, on every host that has one; its exit code, 0 when there is none.

    Hosts that wait for their turn in somebody's rollout are followed too. Raises the error of a host that cannot be asked where
    no other has anything to tell.
    """
    if config.ray is not None:
        from deployer.rollout.raytarget.push import attach as to_ray  # a target of hosts never needs it

        return to_ray(config, emit)
    require_available(config)
    config = meant(config, hosts)
    found = under_way(config, chosen(config, hosts))
    going = {host: one for host, one in found.items() if isinstance(one, dict)}
    if not going:
        raise_first(found.values())
        return 0
    first = next(iter(going.values()))
    stream = Stream(first["deploy"], emit)
    fleet = Fleet(Order(config, "attach", PushOptions()), stream, going, policy(config))
    for host, deploy in fleet.deploys.items():
        deploy.deploy, deploy.serving = going[host]["deploy"], going[host]["serving"]
    for host, error in found.items():
        if isinstance(error, DeployerError):
            stream.event("warning", host=host, text=f"{host} cannot be asked: {error.cause or error.title}")
    rollout = Rollout(fleet)
    with rollout.interruptible():
        fleet.each(fleet.standing, _follow if fleet.alone else _follow_unless_let_go, at_once=len(going))
    return rollout.finish(first["kind"])


def meant(config: Config, hosts: Sequence[str] = ()) -> Config:
    """*config*; that of the job beside the app where a run is under way and no deploy is."""
    if config.job() is None or config.batch is not None or config.ray:
        return config
    for one in (config, config.of_the_job()):
        if any(isinstance(found, dict) for found in under_way(one, chosen(one, hosts)).values()):
            return one
    return config


def under_way(config: Config, hosts: Sequence[str]) -> dict[str, UnderWay | DeployerError | None]:
    """What is under way on each of *hosts*, with the release that serves there; or why that cannot be told."""

    def ask(host: str) -> UnderWay | None:
        with connect(config, host) as session:
            facts = session.call("observe", wake=True, **look(config, host))
        found: UnderWay | None = facts["under_way"]
        return found and {**found, "serving": facts["current"]}

    return dict(zip(hosts, on_each(hosts, ask), strict=True))


def raise_first(found: Any) -> None:
    """Raise the first DeployerError among *found*, if there is one."""
    for one in found:
        if isinstance(one, DeployerError):
            raise one


def _follow(deploy: HostDeploy) -> None:
    deploy.committed = True
    _wait_for_commit(deploy)
    deploy.follow()


def _follow_unless_let_go(deploy: HostDeploy) -> None:
    try:
        _wait_for_commit(deploy)
    except FailedError:
        return  # its rollout has ended without it
    deploy.committed = True
    deploy.follow()


def _wait_for_commit(deploy: HostDeploy) -> None:
    """Until the host has the deploy. Raises FailedError when its own client gave up before, as after a failed build."""
    while (found := deploy.look(wake=True)["under_way"]) and (found["deploy"], found["step"]) == (
        deploy.deploy, "prepare",
    ):  # fmt: skip
        deploy.order.given_up.wait(LOOK_EVERY)
    if not any(past["deploy"] == deploy.deploy for past in deploy.ask("history")):
        title = f"{deploy.deploy} ended before it was handed over to the host"
        raise FailedError(title, state="nothing was changed", hint="its own terminal says why")
