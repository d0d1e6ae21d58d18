"""Errors for a person: what happened, why, how things stand now, what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from deployer.cli.render.paint import Paint
from deployer.cli.render.text import clean, names
from deployer.errors import DeployerError

DIFFERENT = 10
"""Errors that are told one by one; a person reads no more of them."""
CAUSES = 4
THIS_MACHINE = "local"

Failed = tuple[str, DeployerError]


def error_text(error: DeployerError, paint: Paint) -> str:
    """*error* in the form of the house style; a cause of several lines is indented under its first."""
    lines = [f"{paint('error:', 'bad')} {_block(error.title, 7)}"]
    lines += [f"  {name}: {_block(text, 9)}" for name, text in (("cause", error.cause), ("state", error.state)) if text]
    if error.hint:
        lines += ["", f"{paint('hint:', 'strong')} {_block(error.hint, 6)}"]
    return "\n".join(lines)


def alike(errors: Sequence[Failed]) -> list[DeployerError]:
    """What went wrong where, told once for all hosts to which the same happened; after the tenth, how many there are more."""
    groups: dict[tuple[int, str], list[Failed]] = {}
    for host, error in errors:
        groups.setdefault((error.code, _without(host, error.title)), []).append((host, error))
    told = [_told(group) for group in groups.values()]
    if len(told) <= DIFFERENT:
        return told
    rest = [host for group in list(groups.values())[DIFFERENT:] for host, _ in group]
    more = DeployerError(
        f"{len(told) - DIFFERENT} more errors", cause=f"on {names(rest)}", hint="--json has all of them"
    )
    return [*told[:DIFFERENT], more]


def _told(group: Sequence[Failed]) -> DeployerError:
    host, first = group[0]
    if len(group) == 1:
        known = host == THIS_MACHINE or host in first.title
        return first if known else _but(first, f"{host}: {first.title}", first.cause)
    causes: dict[str, list[str]] = {}
    for name, error in group:
        causes.setdefault(_without(name, error.cause or ""), []).append(name)
    lines = [f"{names(hosts)}: {cause}".removesuffix(": ") for cause, hosts in causes.items()]
    lines[CAUSES:] = [f"and {len(lines) - CAUSES} other causes"] if len(lines) > CAUSES else []
    return _but(first, f"{len(group)} hosts: {_without(host, first.title)}", "\n".join(lines))


def _without(host: str, words: str) -> str:
    """*words* as they would be said of any host."""
    return words.removeprefix(f"{host}: ").removeprefix(f"{host} ").replace(host, "the host")


def _but(error: DeployerError, title: str, cause: str | None) -> DeployerError:
    return DeployerError.from_json({**error.to_json(), "title": title, "cause": cause})


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
