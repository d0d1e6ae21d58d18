"""Which process this is, so that its end can be seen from another one on the same machine. Linux; elsewhere nobody knows."""

from __future__ import annotations

import os
import select
import time
from typing import List, Optional, Tuple

Identity = Tuple[str, int, str]
"""Machine and pid namespace, pid, start time."""


def here() -> Optional[str]:
    """This machine, and the namespace in which its pids count."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def identity(pid: Optional[int] = None) -> Optional[Identity]:
    """Who *pid* (this process) is now; None when it has exited, or where that cannot be known."""
    place = here()
    pid = pid or os.getpid()
    start = _start(pid)
    return (place, pid, start) if place and start else None


def _start(pid: int) -> Optional[str]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def lives(who: Identity) -> bool:
    """Whether *who* still runs; False also for a process of another machine, of which we cannot know."""
    return who[0] == here() and _start(who[1]) == who[2]


def gone(who: Identity, within: float) -> bool:
    """Wait until *who* has exited, *within* seconds at most."""
    deadline = time.monotonic() + within
    try:
        handle = os.pidfd_open(who[1])  # type: ignore[attr-defined,unused-ignore]
    except (OSError, AttributeError):
        handle = None
    try:
        while lives(who) and time.monotonic() < deadline:
            left = max(0.0, deadline - time.monotonic())
            if handle is None:
                time.sleep(min(0.05, left))
            else:
                _wait(handle, left)
        return not lives(who)
    finally:
        if handle is not None:
            os.close(handle)


def _wait(handle: int, seconds: float) -> None:
    poller = select.poll()  # takes any number, where select() ends at 1024
    poller.register(handle, select.POLLIN)
    poller.poll(seconds * 1000)


def children() -> List[Identity]:
    """The processes that this one started and that still run."""
    found = []
    try:
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as file:
                found += [identity(int(pid)) for pid in file.read().split()]
    except OSError:
        pass
    return [each for each in found if each]
