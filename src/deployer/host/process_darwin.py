"""macOS: `ps` for the table, kqueue for exits, sysctl for what a process was started with. Not run on macOS by us."""

from __future__ import annotations

import os
import struct
import subprocess
from typing import List, Optional, Tuple

from deployer.errors import PreflightError
from deployer.host.process_ps import PsProcesses

_CTL_KERN, _KERN_PROCARGS2 = 1, 49
_LONGEST = 1 << 20
"""kern.argmax: no process is started with more."""


class DarwinProcesses(PsProcesses):
    """The process table of a Mac."""

    def __init__(self) -> None:
        super().__init__(boot_session())

    def arguments(self, pid: int) -> Optional[Tuple[List[str], bytes]]:
        raw = _procargs(pid)
        return None if raw is None else parse_procargs(raw)

    def cwd(self, pid: int) -> str:
        printed = asked("lsof", "-a", "-p", str(pid), "-d", "cwd", "-Fn")
        return next((line[1:] for line in printed.splitlines() if line.startswith("n")), "")


def boot_session() -> str:
    """
    A name for this boot. Not kern.boottime: that is counted back from the clock, so it changes when the clock is set, and then
    every process would seem to be of another boot.
    """
    found = asked("sysctl", "-n", "kern.bootsessionuuid").strip()
    if not found:
        raise PreflightError("this host does not say which boot it is in", cause="sysctl kern.bootsessionuuid is empty")
    return found


def parse_procargs(raw: bytes) -> Optional[Tuple[List[str], bytes]]:
    """The argv and the environment in what KERN_PROCARGS2 gives: argc, the program's path, NULs, then the words of both."""
    if len(raw) < 4:
        return None
    count = struct.unpack_from("=i", raw)[0]
    words = raw[4:][raw[4:].find(b"\0") :].lstrip(b"\0").split(b"\0")
    argv = [os.fsdecode(word) for word in words[:count]]
    rest = words[count:]
    return argv, b"\0".join(rest[: rest.index(b"")] if b"" in rest else rest)


def asked(*argv: str) -> str:
    """What a command of the system prints; empty when it refuses. Raises PreflightError when it is not there."""
    env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "DEPLOYER_ENGINE": argv[0]}
    try:
        done = subprocess.run(argv, capture_output=True, timeout=15.0, env=env, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        raise PreflightError(f"{argv[0]} could not be asked", cause=str(error), state="nothing was changed") from error
    return os.fsdecode(done.stdout)


def _procargs(pid: int) -> Optional[bytes]:
    import ctypes

    buffer, size = ctypes.create_string_buffer(_LONGEST), ctypes.c_size_t(_LONGEST)
    mib = (ctypes.c_int * 3)(_CTL_KERN, _KERN_PROCARGS2, pid)
    if ctypes.CDLL(None, use_errno=True).sysctl(mib, 3, buffer, ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        return None
    return buffer.raw[: size.value]
