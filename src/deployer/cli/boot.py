"""`deployer enable` and `disable`: whether the service comes up again when the machine does."""

from __future__ import annotations

import typer

from deployer.cli.options import Hosts, TargetArgument
from deployer.cli.session import Session


def enable(ctx: typer.Context, target: TargetArgument = None, host: Hosts = None) -> int:
    """Have the service started after a reboot."""
    return _boot(ctx, "enable", target, host)


def disable(ctx: typer.Context, target: TargetArgument = None, host: Hosts = None) -> int:
    """Let the service stay down after a reboot."""
    return _boot(ctx, "disable", target, host)


def _boot(ctx: typer.Context, what: str, target: str | None, host: list[str] | None) -> int:
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.render.boot import boot_lines
        from deployer.rollout.boot import boot

        data = boot(session.load(target, hosts=host), what)
        session.show(what, data, lambda: boot_lines(data, session.paint))
        return session.missing(data)

    return session.run(action)
