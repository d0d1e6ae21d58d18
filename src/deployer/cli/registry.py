"""`deployer registry`: serve, nodes, drain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployer.cli.options import Command, Group, seconds
from deployer.cli.session import Session
from deployer.errors import UsageError

if TYPE_CHECKING:
    from deployer.registry.asking import Asking

registry = typer.Typer(
    cls=Group,
    help="The node registry: who is online, in which pools, how busy.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
URL = "http://127.0.0.1:7070"

Listen = Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Port 0 takes a free one and says which.")]
Heartbeat = Annotated[
    float, typer.Option(parser=seconds, metavar="DURATION", help="How often a node says that it is there.")
]
Timeout = Annotated[
    float, typer.Option(parser=seconds, metavar="DURATION", help="A node that is silent for so long is offline.")
]
Sweep = Annotated[
    float, typer.Option(parser=seconds, metavar="DURATION", help="How often pools are checked against nodes.")
]
Forget = Annotated[float, typer.Option(parser=seconds, metavar="DURATION", help="When an offline node is forgotten.")]
State = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        help='Keeps the drain marks, or "none" (default: one per port in $STATE_DIRECTORY or ~/.local/state/deployer).',
    ),
]
TlsCert = Annotated[str | None, typer.Option("--tls-cert", metavar="FILE", help="Serve by TLS; read again at SIGHUP.")]
TlsKey = Annotated[str | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's key.")]
NodeToken = Annotated[
    str | None, typer.Option(metavar="FILE", help="The nodes' token (or $DEPLOYER_REGISTRY_NODE_TOKEN).")
]
AdminToken = Annotated[
    str | None, typer.Option(metavar="FILE", help="The admin's token (or $DEPLOYER_REGISTRY_ADMIN_TOKEN).")
]
Url = Annotated[str, typer.Option("--url", metavar="URL", help="Where the registry is.")]
Once = Annotated[bool, typer.Option("--once", help="Show the table once, on a terminal too.")]
Undo = Annotated[bool, typer.Option("--undo", help="Let it take work again.")]
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="As `registry nodes` names it.")]


@registry.command("serve", cls=Command)
def serve(
    ctx: typer.Context,
    listen: Listen = "127.0.0.1:7070",
    heartbeat: Heartbeat = "5s",  # type: ignore[assignment]
    timeout: Timeout = "15s",  # type: ignore[assignment]
    sweep: Sweep = "60s",  # type: ignore[assignment]
    forget: Forget = "24h",  # type: ignore[assignment]
    state: State = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    node_token_file: NodeToken = None,
    admin_token_file: AdminToken = None,
) -> int:
    """Run the registry until SIGTERM or Ctrl-C."""
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.registry_log import RegistryLog
        from deployer.registry.serving import serve
        from deployer.registry.settings import Settings, address
        from deployer.registry.tokens import Tokens, read_token

        host, port = address(listen)
        if (tls_cert is None) is not (tls_key is None):
            raise UsageError("--tls-cert and --tls-key go together")
        settings = Settings(
            host, port, heartbeat, timeout, sweep, forget, state=_state(state, port),
            tls_cert=Path(tls_cert) if tls_cert else None, tls_key=Path(tls_key) if tls_key else None,
            tokens=Tokens(
                read_token(node_token_file, "DEPLOYER_REGISTRY_NODE_TOKEN", os.environ),
                read_token(admin_token_file, "DEPLOYER_REGISTRY_ADMIN_TOKEN", os.environ),
            ),
        )  # fmt: skip
        with RegistryLog(session) as log:
            serve(settings, log.say)
        if log.is_stuck:
            os._exit(0)
        return 0

    return session.run(action)


def _state(asked: str | None, port: int) -> Path | None:
    """Where marks are kept. A port that is another one each time has no file that the next registry would find."""
    if asked == "none" or (asked is None and port == 0):
        return None
    if asked is not None:
        return Path(asked).expanduser()
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or "~/.local/state/deployer"
    return Path(directory).expanduser() / f"registry-{port}.db"


@registry.command("nodes", cls=Command)
def nodes(ctx: typer.Context, url: Url = URL, once: Once = False, admin_token_file: AdminToken = None) -> int:
    """Every node, its work and why it left; on a terminal as a table that moves."""
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.render.registry import nodes_lines

        asking = _asking(url, admin_token_file)
        if session.out.is_terminal and not (once or session.options.json or session.options.quiet):
            return _watched(session, asking)
        found = asking.nodes()
        session.show("nodes", {"nodes": found}, lambda: nodes_lines(found, session.paint))
        return 0

    return session.run(action)


@registry.command("drain", cls=Command)
def drain(
    ctx: typer.Context, node: NodeArgument, url: Url = URL, undo: Undo = False, admin_token_file: AdminToken = None
) -> int:
    """Take a node out of every pool; it stays connected and finishes its work."""
    session = Session(ctx.obj)

    def action() -> int:
        from deployer.cli.render.registry import marked_line
        from deployer.rollout.hosts import who

        asking = _asking(url, admin_token_file)
        found = asking.resume(node) if undo else asking.drain(node, who())
        session.show("registry.drain", {"node": found}, lambda: [marked_line(found, undo)])
        return 0

    return session.run(action)


def _asking(url: str, token_file: str | None) -> Asking:
    from deployer.registry.asking import Asking
    from deployer.registry.tokens import read_token

    return Asking(url, read_token(token_file, "DEPLOYER_REGISTRY_ADMIN_TOKEN", os.environ))


def _watched(session: Session, asking: Asking) -> int:
    from deployer.cli.registry_watch import Watch

    watch = Watch(session.out, session.paint, asking)
    try:
        watch.run()
    except KeyboardInterrupt:
        return 130  # the way out: nothing to explain
    finally:
        watch.close()
    return 0
