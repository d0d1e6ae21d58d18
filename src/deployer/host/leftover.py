"""`leftover SIGNAL GROUP PID…`: what lives on after a unit's main process is asked to stop, once, and waited for."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Any, List

from deployer.host.process import Handle, Processes
from deployer.host.tree import is_engine

_STOPS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH")
"""What a unit may have as KillSignal=, which is also how systemd says that the ceiling has been reached. after.sh ignores them."""


class _Late(Exception):
    """systemd says that the ceiling has been reached."""


def main(argv: List[str]) -> int:
    """
    0 once all processes of *GROUP* (its cgroup.procs) but ours have exited; 1 where systemd wanted to wait no longer.

    It says so by a signal, to us alone, and takes the unit for ended when we go: so whatever is left is killed by us.
    """
    number, group, processes = 0 if argv[0] == "0" else signal.Signals[argv[0]], Path(argv[1]), Processes()
    try:
        for name in _STOPS:
            signal.signal(signal.Signals[name], _late)
        known = _opened([int(pid) for pid in argv[2:]], processes)
        while known:
            _send(known, number)
            number = 0  # who was started later is the business of who started it
            _wait(known)
            known = _opened(_members(group), processes)
        return 0
    except _Late:
        known = _opened(_members(group), processes)
        while known:
            _send(known, signal.SIGKILL)
            _wait(known)
            known = _opened(_members(group), processes)
        return 1


def _late(*_: Any) -> None:
    for name in _STOPS:
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    raise _Late


def _members(group: Path) -> List[int]:
    pids = [int(pid) for pid in group.read_text("ascii").split()]
    return [pid for pid in pids if pid not in (os.getpid(), os.getppid())]


def _opened(pids: List[int], processes: Processes) -> List[Handle]:
    known = [processes.identity(pid) for pid in pids]
    handles = [processes.open(one) for one in known if one is not None and not is_engine(processes.environ(one.pid))]
    return [handle for handle in handles if handle is not None and not handle.exited()]


def _send(known: List[Handle], number: int) -> None:
    for handle in known:
        handle.send(number)


def _wait(known: List[Handle]) -> None:
    """Return once all of *known* have exited."""
    poller = select.poll()
    waiting = {handle.fileno() for handle in known}
    for descriptor in waiting:
        poller.register(descriptor, select.POLLIN)
    while waiting:
        for descriptor, _ in poller.poll():
            poller.unregister(descriptor)
            waiting.discard(descriptor)
    for handle in known:
        handle.close()
