"""`leftover SIGNAL PID…`: what lives on after a unit's main process is asked to stop, once, and waited for."""

from __future__ import annotations

import select
import signal
from typing import List

from deployer.host.process import Processes
from deployer.host.tree import is_engine


def main(argv: List[str]) -> int:
    """Return once all of them have exited. systemd ends us, and them, at the unit's TimeoutStopSec."""
    number, processes = 0 if argv[0] == "0" else signal.Signals[argv[0]], Processes()
    known = [processes.identity(int(pid)) for pid in argv[1:]]
    handles = [processes.open(one) for one in known if one is not None and not is_engine(processes.environ(one.pid))]
    poller = select.poll()
    waiting = set()
    for handle in handles:
        if handle is not None and handle.send(number):
            waiting.add(handle.fileno())
            poller.register(handle.fileno(), select.POLLIN)
    while waiting:
        for descriptor, _ in poller.poll():
            poller.unregister(descriptor)
            waiting.discard(descriptor)
    return 0
