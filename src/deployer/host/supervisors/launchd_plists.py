"""What launchd is given of one release: a plist, and the script that starts it with its secrets. No I/O."""

from __future__ import annotations

import plistlib
import shlex
from typing import Any, Dict, Mapping, Sequence

from deployer.model import DrainOrder

ABOVE_CEILING = 60
"""Seconds by which ExitTimeOut outlasts the ceiling: at a shutdown the drain of the app itself comes first."""
THROTTLE = 1
"""Seconds between two starts after crashes; launchd takes 10 where nothing is said."""
MARK = "Written by deployer"


def job(
    label: str, argv: Sequence[str], cwd: str, script: str, output: str, keep: str, order: DrainOrder, domain: str
) -> bytes:
    """
    The plist of one release. No environment stands in it: `launchctl print` shows that of a daemon to everybody.

    It is kept alive while the file *keep* exists: launchd reads a plist once, and a file can be taken away before the signal.
    """
    plist: Dict[str, Any] = {
        "Label": label,
        "ProgramArguments": ["/bin/sh", script, *argv],
        "WorkingDirectory": cwd,
        "StandardOutPath": output,
        "StandardErrorPath": output,
        "RunAtLoad": True,
        "KeepAlive": {"PathState": {keep: True}},
        "ThrottleInterval": THROTTLE,
        "ExitTimeOut": int(order.ceiling) + ABOVE_CEILING,
        "AbandonProcessGroup": True,  # else launchd kills what still works when the main process has gone
        "Umask": 0o022,
        "ProcessType": "Interactive",  # else macOS may slow it down as a background job
        **_session(domain),
    }
    return plistlib.dumps(plist, sort_keys=False)


def keeper(label: str, argv: Sequence[str], env: Mapping[str, str], output: str, domain: str) -> bytes:
    """The plist that finishes after a boot what a deploy has left undone; it goes when nothing is to be done."""
    plist: Dict[str, Any] = {
        "Label": label,
        "ProgramArguments": list(argv),
        "EnvironmentVariables": dict(env),
        "StandardErrorPath": output,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "AbandonProcessGroup": True,
        **_session(domain),
    }
    return plistlib.dumps(plist, sort_keys=False)


def script(env: Mapping[str, str]) -> str:
    """A shell script that becomes its arguments, with *env*. Secret."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(env.items()) if name.isidentifier()]
    return "\n".join(["#!/bin/sh", f"# {MARK}. Secret.", *lines, 'exec "$@"', ""])


def _session(domain: str) -> Dict[str, str]:
    # Exactly one: an agent of both sessions is started in both.
    kinds = {"gui": "Aqua", "user": "Background"}
    kind = kinds.get(domain.partition("/")[0])
    return {"LimitLoadToSessionType": kind} if kind else {}
