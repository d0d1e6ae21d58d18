"""The deploys that bring nothing new: `rollback`, `start`, `stop`, `restart`."""

from __future__ import annotations

import os
from contextlib import ExitStack

from deployer.config.available import require_available, require_service
from deployer.config.model import Config
from deployer.rollout.engine.chosen import engine
from deployer.rollout.events import Emit, Stream
from deployer.rollout.fleet import Fleet
from deployer.rollout.hosts import chosen, deploy_id, who
from deployer.rollout.ladder import require_time
from deployer.rollout.order import Order, PushOptions, policy
from deployer.rollout.rollout import Rollout
from deployer.rollout.witness import witness_of


def rollback(config: Config, release: str | None, options: PushOptions, emit: Emit) -> int:
    """Push *release*, or the newest good one before what serves, again: same drain, same gates; the exit code."""
    return _act(config, "rollback", options, emit, release=release)


def lifecycle(config: Config, kind: str, options: PushOptions, emit: Emit) -> int:
    """`start`, `stop` or `restart` under the drain rules; the exit code."""
    return _act(config, kind, options, emit)


def _act(config: Config, kind: str, options: PushOptions, emit: Emit, release: str | None = None) -> int:
    if config.ray is not None:
        from deployer.rollout.raytarget.push import lifecycle as on_ray  # a target of hosts never needs it

        return on_ray(config, kind, options, emit)
    require_available(config)
    if kind != "stop":  # that ends what a run has left
        require_service(config)
    if not options.detach:
        require_time(config, os.environ)
    hosts = chosen(config, options.hosts)
    witness = witness_of(config, kind)
    stream = Stream(deploy_id(kind), witness.noting(emit))
    name, told = engine(config, options.engine), "push" if kind == "rollback" else kind
    stream.event(f"{told}.started", app=config.app, target=config.target_name, release=release, kind=kind, who=who())
    rollout = Rollout(Fleet(Order(config, kind, options, release=release), stream, hosts, policy(config)))
    with ExitStack() as carriers:
        with witness, rollout.interruptible():
            if rollout.carry(carriers, name) and rollout.claim():
                rollout.roll()
        return rollout.finish(witness=witness)
