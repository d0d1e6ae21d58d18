"""
The options of the command line: those that work everywhere, and those that several commands share.

A global option is a parameter of the group *and* of each command, so it may stand before or after the command's
name; the last one given wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from deployer import durations


@dataclass
class Globals:
    """What was asked for with the options that work everywhere."""

    config: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    job: bool = False


def _remember(ctx: Any, param: Any, value: Any) -> None:
    asked = ctx.ensure_object(Globals)
    if value:
        setattr(asked, param.name, value)


def _show_version(ctx: Any, param: Any, value: Any) -> None:
    if value:
        from deployer import __version__

        print(f"deployer {__version__}")
        raise typer.Exit


def _flag(*names: str, help: str) -> TyperOption:
    return TyperOption(
        param_decls=list(names), is_flag=True, default=False, expose_value=False, callback=_remember, help=help
    )


def _global_options() -> list[TyperOption]:
    return [
        TyperOption(
            param_decls=["-c", "--config"],
            metavar="FILE",
            type=str,
            expose_value=False,
            callback=_remember,
            help="The config file (default: deploy.toml).",
        ),
        _flag("--json", help="One JSON object a line on stdout, nothing else."),
        _flag("-q", "--quiet", help="Only the result, and errors."),
        _flag("-v", "--verbose", help="Every event in detail, and the build's output."),
        _flag("--job", help="Of the [job] beside the app: status, attach, abort, logs, history, explain."),
        _flag("--no-color", help="No colours (so does NO_COLOR)."),
        TyperOption(
            param_decls=["--version"],
            is_flag=True,
            is_eager=True,
            default=False,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        ),
    ]


class Command(TyperCommand):
    """A command that also takes the global options."""

    def get_params(self, ctx: Any) -> list[Any]:
        if not any(param.name == "no_color" for param in self.params):
            self.params.extend(_global_options())
        return super().get_params(ctx)


class Group(TyperGroup):
    """`deployer` itself: the global options, and the commands in the order in which a person meets them."""

    def get_params(self, ctx: Any) -> list[Any]:
        if not any(param.name == "no_color" for param in self.params):
            self.params.extend(_global_options())
        return super().get_params(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


def seconds(text: str) -> float:
    """The seconds of a duration option; a bare number is refused, like everywhere."""
    try:
        found = durations.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if found > durations.LONGEST:
        raise typer.BadParameter(f'"{text[:40]}" is longer than a year')
    return found


TargetArgument = Annotated[
    str | None, typer.Argument(metavar="[TARGET]", show_default=False, help="A target of deploy.toml.")
]
Ceiling = Annotated[
    float | None,
    typer.Option("--ceiling", parser=seconds, metavar="DURATION", help="The longest this drain may take before force."),
]
WaitLock = Annotated[
    float | None,
    typer.Option("--wait-lock", parser=seconds, metavar="DURATION", help="Wait this long for another deploy to end."),
]
Detach = Annotated[bool, typer.Option("--detach", help="Return early; the host goes on by itself.")]
Hosts = Annotated[list[str] | None, typer.Option("--host", metavar="H", help="Only this host (repeatable).")]
