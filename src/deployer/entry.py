"""The `deployer` command: answers `--version` alone, hands all else to the command line, and is quick about it."""

from __future__ import annotations

import gc
import os
import sys

from deployer import __version__

# The commands that ask an engine. To be wrong about one costs time and nothing else.
ENGINE = {
    *("push", "deploy", "plan", "rollback", "start", "stop", "restart", "attach", "abort", "drain"),
    *("status", "doctor", "releases", "history", "explain", "logs", "enable", "disable"),
}
INTERRUPTED = 130
"""`deployer.errors.Interrupted.code`, without its import."""
USAGE = 2
"""`deployer.errors.UsageError.code`, likewise."""
NEWER = "install it for a newer Python, as the README says; apps on this one have deployer.lifecycle"
WITH_PACKAGES = "install it with its packages, as the README says; deployer.lifecycle alone needs none of them"
GARBAGE_AFTER = 50_000
"""Objects between two looks for garbage. A start makes many, all to stay: Python's 700 costs it a tenth of its time."""


def main() -> None:
    """Run the command line of this process. `--version` alone costs no import: scripts ask it often."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        sys.stdout.write(f"deployer {__version__}\n")
        return
    if sys.version_info < (3, 11):  # noqa: UP036 (pip installs the package on 3.9, for deployer.lifecycle)
        _refuse(f"the deployer command needs Python 3.11 or newer, and this is {sys.version.split()[0]}", NEWER)
    gc.set_threshold(GARBAGE_AFTER)
    try:
        _run()
    except ModuleNotFoundError as error:
        if (error.name or "deployer").partition(".")[0] == "deployer":
            raise
        _refuse(f"the deployer command needs the package {error.name}, which is not installed", WITH_PACKAGES)
    except KeyboardInterrupt:  # while it was still starting: nobody has asked for anything yet
        sys.stderr.write("error: interrupted\n  state: nothing was changed by this call\n")
        _leave(INTERRUPTED)
    except SystemExit as end:
        _leave(end.code)
        raise


def _refuse(what: str, hint: str) -> None:
    sys.stderr.write(f"error: {what}\n  state: nothing was changed by this call\n\nhint: {hint}\n")
    sys.exit(USAGE)


def _run() -> None:
    if wants_engine(sys.argv[1:]):
        _begin(sys.argv[1:])
    from deployer.cli.app import main as run

    run()


def _begin(arguments: list[str]) -> None:
    """What takes time by itself begins beside the imports: the engine of this machine, or the link to another one."""
    from deployer.guess import over_ssh

    meant = over_ssh(arguments)
    if meant is None:
        from deployer.link.local import start_ahead

        start_ahead()
    else:
        from deployer.rollout.ahead import dial_ahead

        dial_ahead(*meant)


def wants_engine(arguments: list[str]) -> bool:
    """Whether *arguments* look like a command that asks an engine, told before there is a parser."""
    return not ENGINE.isdisjoint(arguments) and not {"-h", "--help", "--version", "-V", "registry"} & set(arguments)


def _leave(code: object) -> None:
    """
    Exit with *code* at once: everything is written and closed, and taking the interpreter apart takes 20 ms.

    Returns where that is not so, for Python's own way out to say what is wrong.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return
    if isinstance(code, int):
        os._exit(code)
