"""`deployer push`: build, stage, drain, switch, verify; and `deployer plan`, which only says what push would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployer.cli.follow import Following, follow
from deployer.cli.options import Ceiling, Detach, Hosts, TargetArgument, WaitLock
from deployer.cli.session import Emit, Session
from deployer.errors import UsageError

if TYPE_CHECKING:
    from deployer.config.load import Config

Artifact = Annotated[
    Path | None, typer.Option("--artifact", metavar="PATH", help="Push this instead of [build] artifact.")
]
Release = Annotated[
    str | None,
    typer.Option("--release", metavar="ID", help="Push a release that the host has; any other ID names the new one."),
]
NoBuild = Annotated[bool, typer.Option("--no-build", help="Push what is already built.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the steps, like `deployer plan`.")]
Supersede = Annotated[
    bool, typer.Option("--supersede", help="With --wait-lock: older pushes that still wait give way to this one.")
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine", metavar="ENGINE", help="Call the hosts from threads of this process, or from a ray cluster."
    ),
]


def push(
    ctx: typer.Context,
    target: TargetArgument = None,
    artifact: Artifact = None,
    release: Release = None,
    no_build: NoBuild = False,
    dry_run: DryRun = False,
    ceiling: Ceiling = None,
    host: Hosts = None,
    detach: Detach = False,
    wait_lock: WaitLock = None,
    supersede: Supersede = False,
    engine: Engine = None,
) -> int:
    """Replace the running service, lose no work (alias: deploy)."""
    session = Session(ctx.obj)
    wanted = _wanted(artifact, release, not no_build, host)
    wanted.update(detach=detach, wait_lock=wait_lock or 0.0, supersede=supersede, engine=engine)
    if dry_run:
        return session.run(lambda: _plan(session, session.load(target, ceiling), wanted))

    def load() -> Config:
        if supersede and not wait_lock:
            raise UsageError("--supersede has nobody to send away without --wait-lock", hint="add --wait-lock 10m")
        return session.load(target, ceiling)

    def action(config: Config, emit: Emit) -> int:
        from deployer.rollout.push import PushOptions, push

        return push(config, PushOptions(**wanted), emit)

    return follow(session, Following("push", load, action, detach))


def plan(
    ctx: typer.Context,
    target: TargetArgument = None,
    artifact: Artifact = None,
    release: Release = None,
    no_build: NoBuild = False,
    ceiling: Ceiling = None,
    host: Hosts = None,
) -> int:
    """Show the steps that push would run; change nothing."""
    session = Session(ctx.obj)
    wanted = _wanted(artifact, release, not no_build, host)
    return session.run(lambda: _plan(session, session.load(target, ceiling), wanted))


def _wanted(artifact: Path | None, release: str | None, build: bool, hosts: list[str] | None) -> dict[str, Any]:
    return {"artifact": artifact, "release": release, "build": build, "hosts": tuple(hosts or ())}


def _plan(session: Session, config: Config, wanted: dict[str, Any]) -> int:
    from deployer.cli.render.plan import plan_lines
    from deployer.rollout.planning import plan
    from deployer.rollout.push import PushOptions

    data = plan(config, PushOptions(**wanted))
    session.show("plan", data, lambda: plan_lines(data, session.paint))
    return session.missing(data)
