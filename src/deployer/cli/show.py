"""The commands that only show something: status, releases, history, explain, logs, doctor."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deployer.cli.options import Hosts, TargetArgument
from deployer.cli.session import Session

Follow = Annotated[bool, typer.Option("-f", "--follow", help="Go on as the app writes.")]
LineCount = Annotated[int, typer.Option("-n", "--lines", min=0, metavar="N", help="So many of the last lines.")]
OfService = Annotated[
    str | None, typer.Option("--service", metavar="NAME", help="Of this service beside the app, not of the app.")
]
First = Annotated[
    str | None, typer.Argument(metavar="[TARGET]", show_default=False, help="A target, or else a deploy.")
]
Second = Annotated[
    str | None,
    typer.Argument(
        metavar="[DEPLOY]",
        show_default=False,
        help="As `history` names it; its beginning is enough (default: the last).",
    ),
]


def status(ctx: typer.Context, target: TargetArgument = None, host: Hosts = None) -> int:
    """What runs, what it is busy with, what is under way."""
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.render.status import status_lines
        from deployer.rollout.showing import status

        config = session.load(target, hosts=host)
        data = status(config)
        session.show("status", data, lambda: status_lines(data, config.target_name, session.paint))
        return 0

    return session.run(action)


def releases(ctx: typer.Context, target: TargetArgument = None, host: Hosts = None) -> int:
    """The releases on each host."""
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.render.tables import release_lines
        from deployer.rollout.showing import releases

        data = releases(session.load(target, hosts=host))
        session.show("releases", data, lambda: release_lines(data, session.paint))
        return session.missing(data)

    return session.run(action)


def history(ctx: typer.Context, target: TargetArgument = None, host: Hosts = None) -> int:
    """Past deploys, with how each of their drains ended."""
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.render.tables import history_lines
        from deployer.rollout.showing import history

        config = session.load(target, hosts=host)
        data = history(config)
        session.show("history", data, lambda: history_lines(data, config.target_name, session.paint))
        return session.missing(data)

    return session.run(action)


def explain(ctx: typer.Context, target: First = None, deploy: Second = None, host: Hosts = None) -> int:
    """One deploy as a timeline: what waited for what, and both logs."""
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.render.explain import explain_lines
        from deployer.rollout.showing import explain

        config, name = session.load_either(target, deploy, hosts=host)
        data = explain(config, name)
        session.show("explain", data, lambda: explain_lines(data, session.paint))
        return session.missing(data)

    return session.run(action)


def logs(
    ctx: typer.Context,
    target: TargetArgument = None,
    follow: Follow = False,
    lines: LineCount = 100,
    service: OfService = None,
    host: Hosts = None,
) -> int:
    """The app's output, or that of a service beside it."""
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.app_log import log_writer
        from deployer.rollout.logs import logs

        config = session.load(target, hosts=host)
        writer = log_writer(session, follow, config.hosts)
        try:
            return logs(config, lines, follow, writer.write, writer.missing, service)
        except BrokenPipeError:
            return 0
        except KeyboardInterrupt:
            return 130  # the way out of -f: nothing to explain
        finally:
            writer.close()

    return session.run(action)


def doctor(ctx: typer.Context, target: TargetArgument = None, host: Hosts = None) -> int:
    """Check everything a push needs; change nothing."""
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.render.checks import doctor_lines
        from deployer.rollout.doctor import doctor

        data: dict[str, Any] = doctor(session.load(target, hosts=host))
        session.show("doctor", data, lambda: doctor_lines(data, session.paint))
        return int(data.get("exit_code") or 0)

    return session.run(action)
