"""`deployer run`: a batch job with its services, cleaned up when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployer.cli.follow import Following, follow
from deployer.cli.options import Hosts, TargetArgument, WaitLock
from deployer.cli.session import Emit, Session

if TYPE_CHECKING:
    from deployer.config.load import Config

Artifact = Annotated[
    Path | None, typer.Option("--artifact", metavar="PATH", help="Run this instead of [build] artifact.")
]
NoBuild = Annotated[bool, typer.Option("--no-build", help="Run what is already built.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return once the job has begun; the host does the rest.")]
NoAutostop = Annotated[
    bool, typer.Option("--no-autostop", help="Leave the services running; `deployer stop` ends them.")
]


def run(
    ctx: typer.Context,
    target: TargetArgument = None,
    artifact: Artifact = None,
    no_build: NoBuild = False,
    detach: Detach = False,
    no_autostop: NoAutostop = False,
    wait_lock: WaitLock = None,
    host: Hosts = None,
) -> int:
    """Run the batch job with its services; clean up when it ends."""
    session = Session(ctx.obj)

    def action(config: Config, emit: Emit) -> int:
        from deployer.rollout.order import PushOptions
        from deployer.rollout.run import RunOptions, run

        options = PushOptions(
            artifact=artifact, build=not no_build, detach=detach, wait_lock=wait_lock or 0.0, hosts=tuple(host or ())
        )
        return run(config, RunOptions(options, autostop=not no_autostop), emit)

    return follow(session, Following("run", lambda: session.load(target), action, detach))
