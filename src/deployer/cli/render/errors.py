"""Errors for a person: what happened, why, how things stand now, what to do next."""

from __future__ import annotations

from deployer.cli.render.paint import Paint
from deployer.cli.render.text import clean
from deployer.errors import DeployerError


def error_text(error: DeployerError, paint: Paint) -> str:
    """*error* in the form of the house style; a cause of several lines is indented under its first."""
    lines = [f"{paint('error:', 'bad')} {_block(error.title, 7)}"]
    lines += [f"  {name}: {_block(text, 9)}" for name, text in (("cause", error.cause), ("state", error.state)) if text]
    if error.hint:
        lines += ["", f"{paint('hint:', 'strong')} {_block(error.hint, 6)}"]
    return "\n".join(lines)


def bug(error: BaseException) -> DeployerError:
    """The error to show for an exception that nobody foresaw."""
    return DeployerError(
        "this is a bug in deployer",
        cause=f"{type(error).__name__}: {error}",
        state="unknown; `deployer status` says what runs now",
        hint="please report it, with the lines below",
    )


def warning_text(text: str, paint: Paint) -> str:
    return f"{paint('warning:', 'warn')} {_block(text, 9)}"


def _block(text: str, indent: int) -> str:
    return clean(text.strip()).replace("\n", "\n" + " " * indent)
