"""`deployer abort` and `deployer drain`: said from any terminal while a deploy is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployer.cli.follow import Following, follow
from deployer.cli.options import Detach, Hosts, TargetArgument, seconds
from deployer.cli.session import Emit, Session
from deployer.errors import UsageError

if TYPE_CHECKING:
    from deployer.config.load import Config

Extend = Annotated[
    float | None,
    typer.Option("--extend", parser=seconds, metavar="DURATION", help="Give the work in progress so much more time."),
]
Now = Annotated[bool, typer.Option("--now", help="End the drain now: what is not done is lost.")]


def abort(ctx: typer.Context, target: TargetArgument = None, detach: Detach = False, host: Hosts = None) -> int:
    """Stop a deploy under way; the service ends on the old release."""
    session = Session(ctx.obj)

    def action(config: Config, emit: Emit) -> int:
        from deployer.rollout.control import abort

        return abort(config, detach, emit)

    return follow(session, Following("abort", lambda: session.load(target, hosts=host), action))


def drain(
    ctx: typer.Context, target: TargetArgument = None, extend: Extend = None, now: Now = False, host: Hosts = None
) -> int:
    """Lengthen or end a drain under way; recorded with who and when."""
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.render.control import drain_lines
        from deployer.rollout.control import drain

        if (extend is None) is not now:
            raise UsageError("say what to do with the drain, one of the two", hint="--extend 5m, or --now")
        if extend == 0:
            raise UsageError("--extend 0s would change nothing", hint="--extend 5m")
        config = session.load(target, hosts=host)
        data = drain(config, extend)
        session.show("drain", data, lambda: drain_lines(data, extend, config.target_name))
        return 0

    return session.run(action)
