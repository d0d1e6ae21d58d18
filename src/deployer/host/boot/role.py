"""What `.deployer/boot` runs: `boot start PATH` when the machine comes up, `boot stop PATH` when it goes down in order."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import List, Optional

from deployer.errors import DeployerError
from deployer.host.beside.homes import homes
from deployer.host.boot.units import name_of
from deployer.host.limits import units
from deployer.host.paths import HostPaths
from deployer.host.process import here
from deployer.host.state import opened
from deployer.host.supervisors import builtin
from deployer.host.wake import wake

GONE_WITHIN = 10.0


def main(argv: List[str]) -> int:
    """The exit code; what went wrong is in the journal, or in the mail that cron sends."""
    what, root = argv
    try:
        paths = HostPaths(Path(root))
        if what == "stop":
            _stop(paths)
        else:
            wake(paths, here())
    except (DeployerError, OSError) as error:
        cause = getattr(error, "cause", None)
        sys.stderr.write(f"deployer boot: {error}" + (f": {cause}" if cause else "") + "\n")
        return 1
    return 0


def _stop(paths: HostPaths) -> None:
    """
    Let the keepers go before systemd signals the app: they would start again what ends before its own signal has come.

    A keeper outside of our unit, which somebody has started by hand, is none of systemd's business.
    """
    with opened(paths.state) as state:
        app = state.meta("app") if state else None
    for own in (paths, *homes(paths).values()):
        _let_go(own, app)


def _let_go(paths: HostPaths, app: Optional[str]) -> None:
    keeper = builtin.look(paths)
    if keeper is None or app is None:
        return
    lives_in = units.of_process(keeper["pid"])
    processes = here()
    identity = processes.identity(keeper["pid"])
    if identity is None or lives_in is None or lives_in.name != name_of(app):
        return
    handle = processes.open(identity)
    if handle is not None and handle.send(signal.SIGTERM):
        handle.exited(GONE_WITHIN)
