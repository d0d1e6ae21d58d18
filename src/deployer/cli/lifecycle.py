"""`deployer start`, `stop` and `restart`, under the same drain rules as a push; and `attach`, which only follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from deployer.cli.follow import Following, follow
from deployer.cli.options import Ceiling, Detach, Hosts, TargetArgument, WaitLock
from deployer.cli.session import Emit, Session

if TYPE_CHECKING:
    from deployer.config.load import Config


@dataclass(frozen=True)
class Asked:
    """What a person asked a lifecycle command for."""

    target: str | None
    ceiling: float | None
    wait_lock: float
    detach: bool
    hosts: list[str] | None


def start(
    ctx: typer.Context,
    target: TargetArgument = None,
    ceiling: Ceiling = None,
    wait_lock: WaitLock = None,
    detach: Detach = False,
    host: Hosts = None,
) -> int:
    """Start the current release where it does not run."""
    return _lifecycle(ctx, "start", Asked(target, ceiling, wait_lock or 0.0, detach, host))


def stop(
    ctx: typer.Context,
    target: TargetArgument = None,
    ceiling: Ceiling = None,
    wait_lock: WaitLock = None,
    detach: Detach = False,
    host: Hosts = None,
) -> int:
    """Drain the service and leave it stopped."""
    return _lifecycle(ctx, "stop", Asked(target, ceiling, wait_lock or 0.0, detach, host))


def restart(
    ctx: typer.Context,
    target: TargetArgument = None,
    ceiling: Ceiling = None,
    wait_lock: WaitLock = None,
    detach: Detach = False,
    host: Hosts = None,
) -> int:
    """Drain the service and start the same release again."""
    return _lifecycle(ctx, "restart", Asked(target, ceiling, wait_lock or 0.0, detach, host))


def attach(ctx: typer.Context, target: TargetArgument = None, host: Hosts = None) -> int:
    """Follow a deploy under way, from any terminal."""
    session = Session(ctx.obj)

    def action(config: Config, emit: Emit) -> int:
        from deployer.rollout.attach import attach

        return attach(config, emit)

    return follow(session, Following("attach", lambda: session.load(target, hosts=host), action))


def _lifecycle(ctx: typer.Context, kind: str, asked: Asked) -> int:
    session = Session(ctx.obj)

    def action(config: Config, emit: Emit) -> int:
        from deployer.rollout.commands import lifecycle
        from deployer.rollout.order import PushOptions

        options = PushOptions(detach=asked.detach, wait_lock=asked.wait_lock)
        return lifecycle(config, kind, options, emit)

    return follow(
        session, Following(kind, lambda: session.load(asked.target, asked.ceiling, asked.hosts), action, asked.detach)
    )
