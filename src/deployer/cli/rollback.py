"""`deployer rollback`: the push of an earlier release, with the same drain and the same gates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deployer.cli.follow import Following, follow
from deployer.cli.options import Ceiling, Detach, Hosts, WaitLock
from deployer.cli.session import Emit, Session

if TYPE_CHECKING:
    from deployer.config.load import Config

First = Annotated[
    str | None, typer.Argument(metavar="[TARGET]", show_default=False, help="A target, or else a release.")
]
Second = Annotated[
    str | None,
    typer.Argument(metavar="[RELEASE]", show_default=False, help="The release (default: the one before this)."),
]
Check = Annotated[bool, typer.Option("--check", help="Prove that it would work; change nothing.")]


def rollback(
    ctx: typer.Context,
    target: First = None,
    release: Second = None,
    check: Check = False,
    ceiling: Ceiling = None,
    wait_lock: WaitLock = None,
    detach: Detach = False,
    host: Hosts = None,
) -> int:
    """Go back to an earlier release: same drain, same gates."""
    session = Session(ctx.obj)
    chosen: list[str | None] = [release]

    def load() -> Config:
        config, chosen[0] = session.load_either(target, release, ceiling, host)
        return config

    if check:
        return session.run(lambda: _check(session, load(), chosen))

    def action(config: Config, emit: Emit) -> int:
        from deployer.rollout.commands import rollback
        from deployer.rollout.order import PushOptions

        options = PushOptions(detach=detach, wait_lock=wait_lock or 0.0)
        return rollback(config, chosen[0], options, emit)

    return follow(session, Following("push", load, action, detach))


def _check(session: Session, config: Config, chosen: list[str | None]) -> int:
    from deployer.cli.render.checks import rollback_lines
    from deployer.rollout.showing import rollback_check

    data = rollback_check(config, chosen[0])
    session.show("rollback", data, lambda: rollback_lines(data, session.paint))
    return int(data.get("exit_code") or 0)
