"""
The command line: which commands there are, and what each exit means to the shell.

Importing this module must stay cheap: `--help` may cost 250 ms of CPU. Whatever needs pydantic, httpx or rich is
imported inside the command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from deployer.cli import batch, boot, control, lifecycle, push, registry, rollback, show
from deployer.cli.options import Command, Group
from deployer.cli.session import guarded, voice
from deployer.errors import UsageError

HELP = "Replaces a running service without losing the work it is doing."

app = typer.Typer(
    cls=Group,
    help=HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("doctor", cls=Command)(show.doctor)
app.command("plan", cls=Command)(push.plan)
app.command("push", cls=Command)(push.push)
app.command("deploy", cls=Command, hidden=True)(push.push)
app.command("status", cls=Command)(show.status)
app.command("attach", cls=Command)(lifecycle.attach)
app.command("abort", cls=Command)(control.abort)
app.command("drain", cls=Command)(control.drain)
app.command("rollback", cls=Command)(rollback.rollback)
app.command("releases", cls=Command)(show.releases)
app.command("history", cls=Command)(show.history)
app.command("explain", cls=Command)(show.explain)
app.command("logs", cls=Command)(show.logs)
app.command("run", cls=Command)(batch.run)
app.command("start", cls=Command)(lifecycle.start)
app.command("stop", cls=Command)(lifecycle.stop)
app.command("restart", cls=Command)(lifecycle.restart)
app.command("enable", cls=Command)(boot.enable)
app.command("disable", cls=Command)(boot.disable)
app.add_typer(registry.registry, name="registry")


def run(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `deployer` with *argv* (default: the process's own) and exit with a code of CONTRACT.md section 3."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.exit(guarded(lambda: _dispatch(arguments), voice(arguments)))


def _dispatch(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        # Without any word: the help, but no success, for a pipeline whose variable was empty.
        code = command.main(args=arguments or ["--help"], prog_name="deployer", standalone_mode=False)
        return int(code or 0) if arguments else UsageError.code
    except typer.TyperException as error:
        raise _usage_error(error) from error


def _usage_error(error: typer.TyperException) -> UsageError:
    """What typer says about the command line, in our voice."""
    context = getattr(error, "ctx", None)
    message = error.format_message().strip().removesuffix(".")
    where = context.command_path if context is not None else "deployer"
    return UsageError(message[:1].lower() + message[1:], hint=f"see `{where} --help`")


main = run  # the name that deployer.entry asks for
